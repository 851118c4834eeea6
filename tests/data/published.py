"""Files in the two forms that FFAA is published with, small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

ANSWER = (
    "Image description: a face.\nForgery reasoning: {0}.\nAnalysis result: {1}\nProbability: 0.9\nForgery type: {2}"
)


def picture(path: Path) -> Path:
    """A small picture at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (90, 80, 70)).save(path)
    return path


def turns(answer: str = ANSWER.format("soft", "fake", "Identity swap")) -> list[dict[str, str]]:
    """One question and one answer, the picture's placeholder behind the question."""
    return [{"from": "human", "value": "Real or fake?\n<image>"}, {"from": "gpt", "value": answer}]


def conversations(folder: Path, count: int = 4) -> Path:
    """``ffd_vqa_hypothesis.json`` and its pictures."""
    items = []
    for index in range(count):
        picture(folder / "images" / f"{index}.png")
        label, kind = ("fake", "Identity swap") if index % 2 else ("real", "None")
        answer = ANSWER.format("as it is", label, kind)
        items.append({"id": f"s{index}", "image": f"images/{index}.png", "conversations": turns(answer)})
    return write(folder / "ffd_vqa_hypothesis.json", items)


def selections(folder: Path, pictures: Path, count: int = 4, **changes: Any) -> Path:
    """``mistral_train_nomask.json`` on pictures at absolute paths; ``changes`` are of the last entry."""
    items: list[dict[str, Any]] = []
    for index in range(count):
        fake = index % 2
        results = ("real", "fake", "fake" if fake else "real")
        answers = [
            {"content": ANSWER.format("so", said, "None"), "result": said, "label": 2 * fake + (said == "fake")}
            for said in results
        ]
        path = picture(pictures / f"{index}.png").absolute()
        items.append({"image": path.as_posix(), "cls_label": fake, "answers": answers})
    items[-1].update(changes)
    return write(folder / "mistral_train_nomask.json", items)


def write(file: Path, content: Any) -> Path:
    """The content as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file
