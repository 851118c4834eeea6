from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffaa.data.faces import Face
from ffaa.reporting import pictures
from ffaa.reporting.pictures import Pictures
from ffaa.types import Analysis, Answer, Box, InputError, Request, Verdict


class Recording:
    """A method that remembers what it was given and tells each picture's width as its score."""

    name = "recording"
    needs_face = True
    generate_num = 1
    fingerprint: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []

    def analyze(self, requests: Sequence[Request]) -> list[Analysis]:
        self.batches.append(list(requests))
        answer = Answer("x", Verdict.REAL)
        return [Analysis(Verdict.REAL, one.image.width / 1000, (answer,), id=one.id) for one in requests]


class Detector:
    """Finds as many faces as the picture's top left pixel says."""

    def __init__(self, *_: object) -> None:
        pass

    def detect(self, image: Image.Image) -> list[Face]:
        count = int(np.asarray(image)[0, 0, 0])
        return [Face(Box(10, 10, 50 - i, 50 - i), 1.0, np.zeros((5, 2), np.float32)) for i in range(count)]


@pytest.fixture(autouse=True)
def _detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "FaceDetector", Detector)


def write(path: Path, faces: int, width: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 80), (faces, 0, 0)).save(path)
    return path


def test_files_and_folders_in_order_and_failures_recorded(tmp_path: Path) -> None:
    good, none = write(tmp_path / "d/b.png", 1), write(tmp_path / "d/a.png", 0)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    method = Recording()
    findings = list(Pictures([tmp_path / "d", tmp_path / "broken.jpg", tmp_path / "absent.jpg"]).analyse(method))
    assert [one.path.name for one in findings] == ["a.png", "b.png", "broken.jpg", "absent.jpg"]
    assert [one.analysis is not None for one in findings] == [False, True, False, False]
    assert "no face" in str(findings[0].error) and "no such file" in str(findings[3].error)
    assert [one.id for batch in method.batches for one in batch] == ["b.png"]
    assert (good, none) == (findings[1].path, findings[0].path)


def test_the_largest_face_or_all(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 3), write(tmp_path / "b.png", 1)
    method = Recording()
    findings = list(Pictures([tmp_path]).analyse(method))
    assert [(one.path.name, one.face, one.faces) for one in findings] == [("a.png", 1, 1), ("b.png", 1, 1)]
    assert method.batches[0][0].image.size == (52, 52)  # 40 pixels of face and the margin
    method = Recording()
    findings = list(Pictures([tmp_path], all_faces=True).analyse(method, batch_size=2))
    assert [(one.path.name, one.face, one.faces) for one in findings] == [
        ("a.png", 1, 3), ("a.png", 2, 3), ("a.png", 3, 3), ("b.png", 1, 1),
    ]  # fmt: skip
    assert [[one.id for one in batch] for batch in method.batches] == [
        ["a.png", "a.png_face2"],
        ["a.png_face3", "b.png"],
    ]
    assert [round(one.analysis.score * 1000) for one in findings if one.analysis] == [52, 51, 49, 52]


def test_uncropped_pictures_are_taken_whole(tmp_path: Path) -> None:
    method = Recording()
    (finding,) = Pictures([write(tmp_path / "a.png", 0)], crop=False, question="Who?").analyse(method)
    assert finding.box is None and method.batches[0][0].image.size == (90, 80)
    assert method.batches[0][0].question == "Who?"
    with pytest.raises(InputError, match="the question is empty"):
        Pictures([tmp_path / "a.png"], question=" ")


def test_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1), write(tmp_path / "b.png", 0)
    good, bad = (json.loads(json.dumps(one.to_json())) for one in Pictures([tmp_path]).analyse(Recording()))
    assert (good["status"], good["verdict"], good["box"], good["error"]) == ("ok", "real", [10, 10, 50, 50], None)
    assert bad.keys() == {"image", "status", "error"} and bad["status"] == "failed"


def test_one_bad_picture_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Pictures([tmp_path / "absent.jpg"])
    with pytest.raises(InputError, match="no face"):
        list(Pictures([write(tmp_path / "a.png", 0)]).analyse(Recording()))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        Pictures([tmp_path / "empty"])
    with pytest.raises(InputError, match="batch_size"):
        list(Pictures([tmp_path]).analyse(Recording(), batch_size=0))


def test_heat_maps_need_a_method_that_explains(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recording has no heat maps"):
        list(Pictures([write(tmp_path / "a.png", 1)]).analyse(Recording(), heat_maps=tmp_path))


def test_heat_maps_do_not_overwrite_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Explaining(Recording):
        def explain(self, request: Request, analysis: Analysis) -> Any:
            return request.id

    def save(image: Image.Image, explanation: Any, folder: Path, stem: str) -> list[Path]:
        return [folder / f"{stem}_heat1.png"]

    monkeypatch.setattr("ffaa.reporting.heatmaps.save_heatmaps", save)
    write(tmp_path / "1/a.png", 2), write(tmp_path / "2/a.png", 1), write(tmp_path / "2/a.bmp", 1)
    findings = Pictures([tmp_path / "1", tmp_path / "2"], all_faces=True).analyse(Explaining(), heat_maps=Path("out"))
    names = [path.name for one in findings for path in one.heat_maps]
    assert names == ["a_heat1.png", "a_face2_heat1.png", "a-2_heat1.png", "a-3_heat1.png"]


def test_the_second_face_of_a_picture_and_a_file_of_that_name_have_names_of_their_own() -> None:
    files = [Path("x.jpg"), Path("x_face2.jpg"), Path("y_face2.jpg"), Path("other/x.jpg")]
    stems = pictures._unique_stems(files)
    assert [stems[file] for file in files] == ["x", "x_face2-2", "y_face2", "x-2"]


def test_numbers_that_are_none_are_a_failure(tmp_path: Path) -> None:
    class Overflown(Recording):
        def analyze(self, requests: Sequence[Request]) -> list[Analysis]:
            return [replace(found, score=float("nan")) for found in super().analyze(requests)]

    given = [write(tmp_path / "a.png", 1), write(tmp_path / "b.png", 1)]
    findings = list(Pictures(given).analyse(Overflown()))
    assert [(one.analysis, one.error) for one in findings] == [(None, "the method's score is nan")] * 2
