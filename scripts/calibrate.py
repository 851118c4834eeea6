"""Fit a checkpoint's calibration: P(fake) from MIDS's score and the free answer's first deciding token.

A logistic regression on pictures of validation people; what it achieves is cross-validated by person. Written to
``calibration.json`` in the checkpoint. Answers are kept as in an evaluation, so that a second call takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ffaa.config import model_folder, parse
from ffaa.data.images import inside, open_image
from ffaa.data.records import read_records
from ffaa.metrics.calibration import Calibration, expected_calibration_error, logit, uncertain_band
from ffaa.metrics.ranking import roc_auc
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, config_hash, run_door
from ffaa.types import Analysis, InputError, Record, Request

SCORES = ("score", "opening")
FOLDS = 5


@dataclass(frozen=True)
class Options:
    data: Path = PROJECT_ROOT / "data" / "mini" / "calibration"
    """Folder of pictures with records.jsonl: of people whom neither stage was trained on."""
    model: str = "mini"
    """Folder configs/ffaa/<model>/."""
    checkpoint: Path = PROJECT_ROOT / "playground" / "mini"
    """Checkpoint to calibrate."""
    accuracy: float = 0.9
    """Share of right decisions that is wanted outside of the uncertain band."""
    block_size: int = 32
    """Pictures answered together."""
    seed: int = 0
    """Chooses the free questions."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16."""


def analyses_of(records: Sequence[Record], options: Options) -> tuple[list[Analysis], dict[str, str]]:
    """The uncalibrated analyses, and the hashes of what made them."""
    from ffaa.evaluation.answer_cache import AnswerCache
    from ffaa.evaluation.cached_method import CachedMethod
    from ffaa.methods import load_method
    from ffaa.methods.base import Generates

    method = load_method(
        "ffaa",
        model_dir=model_folder("ffaa", options.model),
        checkpoint=options.checkpoint,
        device=options.device,
        dtype=options.dtype,
        seed=options.seed,
    )
    assert isinstance(method, Generates)
    weights = {name: str(value) for name, value in method.fingerprint.items()}
    cached = CachedMethod(method, AnswerCache(method.written_by))
    done: list[Analysis] = []
    with tqdm(total=len(records), unit="picture") as bar:
        for start in range(0, len(records), options.block_size):
            block = records[start : start + options.block_size]
            requests = [Request(open_image(inside(options.data, one.image)), id=one.id) for one in block]
            done += cached.analyze(requests)
            bar.update(len(block))
    return done, weights


@contextmanager
def set_aside(path: Path) -> Iterator[None]:
    """The file out of the way meanwhile: a calibration of other weights would not let these be loaded."""
    aside = path.with_name(path.name + ".aside")
    if path.is_file():
        path.replace(aside)
    try:
        yield
    finally:
        if aside.is_file():
            aside.replace(path)


def _logit(score: float | None) -> float:
    return logit(0.5 if score is None else score)


def fit(evidence: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (k,) and bias of a logistic regression on logits (n, k)."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1.0).fit(evidence, labels)
    return fitted.coef_[0], float(fitted.intercept_[0])


def cross_validated(evidence: np.ndarray, labels: np.ndarray, people: Sequence[str]) -> np.ndarray:
    """P(fake) of each picture by a fit to other people's pictures."""
    from sklearn.model_selection import GroupKFold

    probabilities = np.zeros(len(labels))
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=0).split(evidence, labels, people):
        weights, bias = fit(evidence[train], labels[train])
        probabilities[test] = 1 / (1 + np.exp(-(evidence[test] @ weights + bias)))
    return probabilities


def calibrate(records: Sequence[Record], analyses: Sequence[Analysis], options: Options) -> Calibration:
    """The calibration, with what it achieves on people that it was not fitted to."""
    from ffaa.methods.calibration import scores_of

    scores = [scores_of(analysis) for analysis in analyses]
    names = [name for name in SCORES if any(score[name] is not None for score in scores)]
    evidence = np.array([[_logit(score[name]) for name in names] for score in scores])
    labels = np.array([record.label == "fake" for record in records])
    people = [record.group or record.id for record in records]
    if len(set(people)) < FOLDS or len(set(labels)) < 2:
        raise InputError(f"{options.data}: a calibration needs real and forged pictures of at least {FOLDS} people")
    held_out = cross_validated(evidence, labels, people)
    weights, bias = fit(evidence, labels)
    low, high = uncertain_band(labels, held_out, options.accuracy)
    fitted = Calibration(dict(zip(names, map(float, weights), strict=True)), bias, (low, high))
    says_fake = np.array([analysis.verdict == "fake" for analysis in analyses])
    certain = np.array(
        [not fitted.is_uncertain(p, says_fake=bool(fake)) for p, fake in zip(held_out, says_fake, strict=True)]
    )
    right = says_fake == labels
    raw = [analysis.score for analysis in analyses]
    measured = {
        "n": len(labels),
        "people": len(set(people)),
        "ece": expected_calibration_error(labels, held_out),
        "ece_of_the_score": expected_calibration_error(labels, raw),
        "auc": roc_auc(labels.tolist(), held_out),
        "auc_of_the_score": roc_auc(labels.tolist(), np.array(raw)),
        "accuracy": float(right.mean()),
        "coverage": float(certain.mean()),
        "accuracy_where_certain": float(right[certain].mean()) if certain.any() else None,
        "accuracy_where_uncertain": float(right[~certain].mean()) if (~certain).any() else None,
    }
    return replace(fitted, measured=measured)


def main() -> int:
    options = parse(Options, prog="calibrate.py", description=__doc__ or "")
    from ffaa.methods.calibration import CALIBRATION_FILE, write_calibration

    records = read_records(options.data / "records.jsonl", files_must_exist=True)
    with set_aside(options.checkpoint / CALIBRATION_FILE):
        analyses, weights = analyses_of(records, options)
    calibration = replace(calibrate(records, analyses, options), fitted_on=weights)
    write_calibration(calibration, options.checkpoint)
    print(f"weights {dict(calibration.weights)}, bias {calibration.bias:.3f}, uncertain within {calibration.uncertain}")
    for name, value in calibration.measured.items():
        print(f"{name}: {value if value is None or isinstance(value, int) else round(value, 4)}")
    print(f"{options.checkpoint}: calibration {config_hash(calibration)}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
