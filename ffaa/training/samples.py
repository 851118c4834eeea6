"""Which validation pictures are looked at during a training, and the sheet of what was answered."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from ffaa.data.images import open_image
from ffaa.types import Analysis

_SIDE, _LINE, _COLUMNS = 224, 16, 4


def balanced(labels: Sequence[str], count: int, seed: int) -> list[int]:
    """Indices of ``count`` pictures, by turns real and fake as far as there are; the same for the same seed."""
    order = random.Random(seed).sample(range(len(labels)), len(labels))
    kinds = [[index for index in order if labels[index] == kind] for kind in ("real", "fake")]
    ranked = sorted((place, side, index) for side, kind in enumerate(kinds) for place, index in enumerate(kind))
    return [index for _, _, index in ranked[:count]]


def captions(label: str, analysis: Analysis) -> list[str]:
    """Three short lines on one picture: what it is, what was said, and how surely."""
    match = "" if analysis.match_score is None else f", match {analysis.match_score:.2f}"
    return [f"truth: {label}", f"verdict: {analysis.verdict}", f"P(fake) {analysis.score:.2f}{match}"]


def sheet(pictures: Sequence[Path], labels: Sequence[str], analyses: Sequence[Analysis]) -> Image.Image:
    """All pictures side by side, each with its captions beneath, green where the verdict is right and red elsewhere."""
    height = _SIDE + 3 * _LINE
    rows = -(-len(pictures) // _COLUMNS)
    whole = Image.new("RGB", (_COLUMNS * _SIDE, rows * height), "white")
    draw = ImageDraw.Draw(whole)
    for place, (path, label, analysis) in enumerate(zip(pictures, labels, analyses, strict=True)):
        left, top = place % _COLUMNS * _SIDE, place // _COLUMNS * height
        whole.paste(ImageOps.pad(open_image(path), (_SIDE, _SIDE), color="white"), (left, top))
        colour = "darkgreen" if label == analysis.verdict else "firebrick"
        for line, caption in enumerate(captions(label, analysis)):
            draw.text((left + 4, top + _SIDE + line * _LINE), caption, fill=colour)
    return whole


def report(pictures: Sequence[Path], labels: Sequence[str], analyses: Sequence[Analysis]) -> str:
    """The same as text, with the whole of the answers."""
    parts = []
    for path, label, analysis in zip(pictures, labels, analyses, strict=True):
        head = f"{path.name} | " + " | ".join(captions(label, analysis))
        question = f"\nQ: {analysis.answer.question}" if analysis.answer.question else ""
        parts.append(f"{head}{question}\n{analysis.answer.text}\n")
    return "\n".join(parts)
