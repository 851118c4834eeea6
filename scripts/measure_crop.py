"""Whether a whole photograph gets the verdict of its face crop: the box that inference finds against a known one.

Photographs of held-out people, half of them with a forgery in its place, saved whole as JPEG. Each is analysed twice:
cropped as ``inference.py`` does it, and around the box that was found before it was forged and saved.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ffaa.config import parse
from ffaa.data.faces import FaceDetector, crop_face
from ffaa.data.images import open_image
from ffaa.evaluation.kept_figures import check_replaceable
from ffaa.forge.recipe import Recipe, forge_photographs
from ffaa.metrics.detection import share
from ffaa.runtime import (
    EXIT_DONE,
    PROJECT_ROOT,
    atomic_write_text,
    config_hash,
    dtype_name,
    make_folder,
    pick_device,
    run_door,
    to_plain,
)
from ffaa.types import Analysis, InputError, Request

RECIPE = Recipe(faces="celeba_faces", people="test", seed=109, counts={"real": 20, "blend": 7, "swap": 7, "local": 6})
QUALITY = 92


@dataclass(frozen=True)
class Options:
    model: str = "mini"
    """Folder configs/ffaa/<model>/."""
    checkpoint: Path | None = None
    """Weights instead of those that the model's config names."""
    block_size: int = 20
    """Pictures answered together."""
    out: Path = PROJECT_ROOT / "results" / "crop" / "agreement.json"
    """Where the figures go, with what they were made from; a file of other settings, weights or pictures is not
    replaced."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16."""

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise InputError(f"block_size must be at least 1, got {self.block_size}")


def photographs(folder: Path) -> Iterator[tuple[str, Request, Request]]:
    """Kind, and the face as inference finds it and as it was known, of each photograph, saved in ``folder``."""
    detector = FaceDetector()
    for index, (kind, face) in enumerate(forge_photographs(RECIPE)):
        path = folder / f"{index:02d}.jpg"
        Image.fromarray(face.pixels).save(path, quality=QUALITY)
        image = open_image(path)
        faces = detector.detect(image)
        if faces:
            crops = [crop_face(image, box) for box in (faces[0].box, face.box)]
            yield kind.value, Request(crops[0], id=path.name), Request(crops[1], id=path.name)


def compared(kind: str, found: Analysis, known: Analysis) -> dict[str, Any]:
    """One photograph's two verdicts."""
    return {
        "id": known.id,
        "kind": kind,
        "found": found.verdict.value,
        "known": known.verdict.value,
        "p_fake_found": found.score,
        "p_fake_known": known.score,
    }


def made_from(
    options: Options, pairs: Sequence[tuple[str, Request, Request]], fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    """All that the figures depend on; ``data`` is of the crops themselves, as the faces that were found decide them."""
    from ffaa.evaluation.cached_method import picture_key

    settings = {
        "model": options.model,
        # As it was chosen, not "auto": what that is depends on the machine.
        "dtype": dtype_name(options.dtype, pick_device(options.device)),
        "recipe": RECIPE,
        "quality": QUALITY,
    }
    data = config_hash([(kind, picture_key(found.image), picture_key(known.image)) for kind, found, known in pairs])
    return dict(to_plain({"settings": settings, "fingerprint": fingerprint, "data": data}))


def main() -> int:
    options = parse(Options, prog="measure_crop.py", description=__doc__ or "")
    from ffaa.evaluation.cached_method import load_cached

    cached = load_cached(options.model, checkpoint=options.checkpoint, device=options.device, dtype=options.dtype)
    with tempfile.TemporaryDirectory() as folder:
        pairs = list(photographs(Path(folder)))
    if not pairs:
        raise InputError("no face was found in any photograph")
    made = made_from(options, pairs, cached.fingerprint)
    check_replaceable(options.out, made)
    requests = [request for _, found, known in pairs for request in (found, known)]
    analyses: list[Analysis] = []
    for start in range(0, len(requests), 2 * options.block_size):
        analyses += cached.analyze(requests[start : start + 2 * options.block_size])
    rows = [
        compared(kind, found, known)
        for (kind, _, _), found, known in zip(pairs, analyses[::2], analyses[1::2], strict=True)
    ]
    agreement = share(sum(row["found"] == row["known"] for row in rows), len(rows))
    make_folder(options.out.parent)
    facts = {**made, "agreement": agreement, "photographs": sum(RECIPE.counts.values()), "rows": rows}
    atomic_write_text(options.out, json.dumps(facts, indent=2) + "\n")
    low, high = agreement["accuracy_interval"]
    print(f"a face found in {len(rows)} of {facts['photographs']} photographs")
    print(f"same verdict: {agreement['n_correct']} of {agreement['n']} [{100 * low:.0f}-{100 * high:.0f} %]")
    for row in rows:
        if row["found"] != row["known"]:
            print(f"differs: {row}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
