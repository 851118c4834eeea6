"""Group CelebA pictures by person: SFace embeddings, union of pairs with cosine above 0.42. Writes the shipped list."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ffaa.assets import fetch
from ffaa.config import parse
from ffaa.data.images import open_image
from ffaa.forge.library import PEOPLE
from ffaa.runtime import EXIT_DONE, run_door

SAME_PERSON = 0.42


def embeddings() -> dict[str, np.ndarray]:
    """Picture name -> unit vector, for the pictures in which YuNet finds a face."""
    models = fetch("sface")
    recogniser = cv2.FaceRecognizerSF.create(str(next(models.glob("**/*sface*.onnx"))), "")
    detector_file = str(next(models.glob("**/*yunet*.onnx")))
    found: dict[str, np.ndarray] = {}
    for path in sorted(fetch("celeba_faces").glob("*.jpg")):
        picture = cv2.cvtColor(np.asarray(open_image(path)), cv2.COLOR_RGB2BGR)  # both networks read BGR
        height, width = picture.shape[:2]
        detector = cv2.FaceDetectorYN.create(detector_file, "", (width, height), 0.5)
        _, faces = detector.detect(picture)
        if faces is not None:
            largest = max(faces, key=lambda face: face[2] * face[3])
            vector = recogniser.feature(recogniser.alignCrop(picture, largest)).ravel()
            found[path.stem] = vector / np.linalg.norm(vector)
    return found


@dataclass(frozen=True)
class Options:
    out: Path = PEOPLE
    """File to write; the shipped list by default."""


def main() -> int:
    options = parse(Options, prog="find_same_people.py", description=__doc__ or "")
    vectors = embeddings()
    names = list(vectors)
    cosines = np.stack(list(vectors.values())) @ np.stack(list(vectors.values())).T
    root = list(range(len(names)))

    def find(node: int) -> int:
        while root[node] != node:
            node = root[node]
        return node

    for first, second in zip(*np.where(np.triu(cosines, 1) > SAME_PERSON), strict=True):
        root[find(int(second))] = find(int(first))
    people = {name: f"celeba-{names[find(index)]}" for index, name in enumerate(names)}
    options.out.write_text(json.dumps(people, indent=0) + "\n")
    print(f"{len(people)} pictures of {len(set(people.values()))} people -> {options.out}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
