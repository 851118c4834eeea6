"""Pictures given by hand, not as a benchmark: found, cropped to their faces, analysed in batches, failures recorded."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ffaa.data.faces import FaceDetector, NoFaceError, crop_face
from ffaa.data.images import find_images, open_image
from ffaa.methods.base import Explains, Method
from ffaa.runtime import make_folder, pick_device
from ffaa.types import Analysis, Box, InputError, Request

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """What came out for one face, or why nothing did.

    ``face`` counts from 1 within the picture's ``faces``; ``box`` is the face's, in pixels of the upright picture, None
    where the whole picture was analysed. Either ``request`` and, once analysed, ``analysis`` are set, or ``error``.
    """

    path: Path
    face: int = 1
    faces: int = 1
    box: Box | None = None
    request: Request | None = None
    analysis: Analysis | None = None
    heat_maps: tuple[Path, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        if self.analysis is None:
            return {"image": str(self.path), "status": "failed", "error": self.error}
        box = None if self.box is None else [self.box.left, self.box.top, self.box.right, self.box.bottom]
        return {
            "image": str(self.path),
            "status": "ok",
            "error": None,
            "face": self.face,
            "faces": self.faces,
            "box": box,
            "heat_maps": [str(path) for path in self.heat_maps],
            **self.analysis.to_json(),
        }


class Pictures:
    """Files and folders to analyse.

    Args:
        paths: pictures, or folders of which all pictures are taken.
        crop: analyse the face as detected, with the margin used everywhere, instead of the whole picture.
        all_faces: every face of a picture instead of the largest.
        question: asked instead of the method's own.
        device: where faces are looked for: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: a folder without pictures; there is but one picture and it cannot be opened; the question is empty.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        crop: bool = True,
        all_faces: bool = False,
        question: str | None = None,
        device: str = "cpu",
    ) -> None:
        if question is not None and not question.strip():
            raise InputError("the question is empty; leave it out to ask one of the free questions")
        self.files = [file for path in map(Path, paths) for file in (find_images(path) if path.is_dir() else [path])]
        self.crop = crop
        self.all_faces = all_faces
        self.question = question
        self.device = device
        if len(self.files) == 1:
            open_image(self.files[0])

    def analyse(self, method: Method, *, batch_size: int = 8, heat_maps: Path | None = None) -> Iterator[Finding]:
        """Findings in the order of the files, a picture's faces largest first, ``batch_size`` faces analysed together.

        Args:
            method: what analyses.
            batch_size: at least 1.
            heat_maps: folder for ``<picture>_heat1.png`` and so on; None: none are made.

        Raises:
            InputError: the method has no heat maps, or their folder cannot be made; or there is but one picture and
                it fails.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        if heat_maps is not None and not isinstance(method, Explains):
            raise InputError(f"method {method.name} has no heat maps")
        if heat_maps is not None:
            make_folder(heat_maps)
        detector = FaceDetector(pick_device(self.device)) if self.crop and method.needs_face else None
        stems = _unique_stems(self.files)
        for files in _batches(self.files, batch_size):
            prepared = [finding for file in files for finding in self._prepare(file, detector)]
            for finding in _analysed(method, prepared, batch_size):
                if finding.error is not None and len(self.files) == 1:
                    raise InputError(finding.error)
                yield _with_heat_maps(finding, method, heat_maps, stems[finding.path])

    def _prepare(self, path: Path, detector: FaceDetector | None) -> list[Finding]:
        """The picture's faces as requests, or one finding with the reason why there is none."""
        try:
            image = open_image(path)
            if detector is None:
                return [Finding(path, request=Request(image=image, id=path.name, question=self.question))]
            boxes = [face.box for face in detector.detect(image)]
            if not boxes:
                raise NoFaceError(f"no face found in {path}; --crop 0 takes a picture that is a face crop already")
            boxes = boxes if self.all_faces else boxes[:1]
            crops = [crop_face(image, box) for box in boxes]
        except InputError as error:
            return [Finding(path, error=" ".join(str(error).split()))]
        return [
            Finding(path, number, len(boxes), box, Request(crop, _face_name(path.name, number), self.question))
            for number, (box, crop) in enumerate(zip(boxes, crops, strict=True), start=1)
        ]


def _analysed(method: Method, findings: Sequence[Finding], batch_size: int) -> Iterator[Finding]:
    requests = [finding.request for finding in findings if finding.request is not None]
    analyses = iter([analysis for batch in _batches(requests, batch_size) for analysis in method.analyze(batch)])
    for finding in findings:
        if finding.request is None:
            yield finding
        else:
            analysis = next(analyses)
            error = analysis.nonsense
            yield replace(finding, error=error) if error else replace(finding, analysis=analysis)


def _with_heat_maps(finding: Finding, method: Method, folder: Path | None, stem: str) -> Finding:
    if folder is None or finding.request is None or finding.analysis is None or not isinstance(method, Explains):
        return finding
    from ffaa.reporting.heatmaps import save_heatmaps

    explanation = method.explain(finding.request, finding.analysis)
    name = _face_name(stem, finding.face)
    try:
        return replace(finding, heat_maps=tuple(save_heatmaps(finding.request.image, explanation, folder, name)))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return replace(finding, analysis=None, error=f"no heat map can be written for it: {error.strerror}")


def _face_name(name: str, face: int) -> str:
    """The first face bears the picture's name, so that it is asked the same with and without ``all_faces``."""
    return name if face == 1 else f"{name}_face{face}"


def _unique_stems(files: Sequence[Path]) -> dict[Path, str]:
    """A name per file for what is written about it: its stem, numbered where several files share one."""
    stems: dict[Path, str] = {}
    taken: set[str] = set()
    plain = {file.stem for file in files}
    for file in files:
        number, stem = 1, file.stem
        # x_face2.jpg beside x.jpg: that name is for the second face of x.
        while file not in stems and (stem in taken or re.sub(r"_face\d+$", "", stem) in plain - {stem}):
            number += 1
            stem = f"{file.stem}-{number}"
        taken.add(stem)
        stems.setdefault(file, stem)
    return stems


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
