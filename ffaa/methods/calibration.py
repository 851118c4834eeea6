"""A checkpoint's ``calibration.json``: read, checked against the weights beside it, and applied to analyses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ffaa.metrics.calibration import Calibration
from ffaa.runtime import atomic_write_text, to_plain
from ffaa.types import Analysis, InputError, Verdict

CALIBRATION_FILE = "calibration.json"
SCORES = ("score", "opening")
"""What a calibration may weigh: the method's own score, and the free answer's at its first deciding token."""


def scores_of(analysis: Analysis) -> dict[str, float | None]:
    """The values of ``SCORES``, None where there is none."""
    opening = analysis.answers[0].opening_score if analysis.answers else None
    return {"score": analysis.score, "opening": opening}


def calibrated(analysis: Analysis, calibration: Calibration | None) -> Analysis:
    """The analysis with its probability, and whether it is uncertain; as it was without a calibration or a verdict."""
    if calibration is None or analysis.verdict is Verdict.UNPARSED:
        return analysis
    probability = calibration.probability(scores_of(analysis))
    says_fake = analysis.verdict is Verdict.FAKE
    uncertain = calibration.is_uncertain(probability, says_fake=says_fake)
    return replace(analysis, probability=probability, uncertain=uncertain)


def read_calibration(checkpoint: Path | None, weights: Mapping[str, Any], generate_num: int) -> Calibration | None:
    """The calibration that comes with a checkpoint; None where none does, or one for another number of answers.

    Args:
        checkpoint: the folder.
        weights: hashes of what is loaded from it, by name.
        generate_num: answers a picture.

    Raises:
        InputError: the file is damaged, or was fitted to other weights.
    """
    path = checkpoint / CALIBRATION_FILE if checkpoint else None
    if path is None or not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if unknown := set(facts["weights"]) - set(SCORES):
            raise ValueError(f"no score is called {', '.join(sorted(unknown))}")
        low, high = facts["uncertain"]
        found = Calibration(
            weights={str(name): float(weight) for name, weight in facts["weights"].items()},
            bias=float(facts["bias"]),
            uncertain=(float(low), float(high)),
            fitted_on={str(name): str(value) for name, value in facts["fitted_on"].items()},
            generate_num=int(facts["generate_num"]),
            measured=dict(facts["measured"]),
        )
    except (OSError, ArithmeticError, RecursionError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is no calibration: {error!r}; scripts/calibrate.py makes one") from error
    for name, value in weights.items():
        if found.fitted_on.get(name) != value:
            raise InputError(f"{path} was fitted to other weights ({name}): make it anew by scripts/calibrate.py")
    return found if found.generate_num == generate_num else None


def write_calibration(calibration: Calibration, checkpoint: Path) -> None:
    """Put it beside the weights."""
    atomic_write_text(checkpoint / CALIBRATION_FILE, json.dumps(to_plain(calibration), indent=2) + "\n")
