"""Fit a checkpoint's calibration: P(fake) from MIDS's score and the free answer's first deciding token.

A logistic regression on pictures of validation people; what it achieves, the uncertain band included, is
cross-validated by person. Written to ``calibration.json`` in the checkpoint. Answers are kept as in an evaluation, so
that a second call takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ffaa.config import parse
from ffaa.data.images import inside, open_image
from ffaa.data.records import read_records
from ffaa.metrics.calibration import Calibration, expected_calibration_error, logit, sigmoid, uncertain_band
from ffaa.metrics.ranking import roc_auc
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, run_door
from ffaa.types import Analysis, InputError, Record, Request, Verdict

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

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise InputError(f"block_size must be at least 1, got {self.block_size}")
        if not 0.5 <= self.accuracy <= 1:
            raise InputError(f"accuracy is a share from 0.5 to 1, got {self.accuracy}")


def analyses_of(records: Sequence[Record], options: Options) -> tuple[list[Analysis], dict[str, str], int]:
    """The uncalibrated analyses, the hashes of what made them, and the answers a picture."""
    from ffaa.evaluation.cached_method import load_cached

    method = load_cached(
        options.model,
        checkpoint=options.checkpoint,
        device=options.device,
        dtype=options.dtype,
        seed=options.seed,
        calibrate=False,
    )
    done: list[Analysis] = []
    with tqdm(total=len(records), unit="picture") as bar:
        for start in range(0, len(records), options.block_size):
            block = records[start : start + options.block_size]
            requests = [Request(open_image(inside(options.data, one.image)), id=one.id) for one in block]
            done += method.analyze(requests)
            bar.update(len(block))
    return done, {name: str(value) for name, value in method.fingerprint.items()}, method.generate_num


def fit(evidence: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (k,) and bias of a logistic regression on logits (n, k)."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1.0).fit(evidence, labels)
    return fitted.coef_[0], float(fitted.intercept_[0])


def folds_of(labels: np.ndarray, people: Sequence[str]) -> list[np.ndarray]:
    """Indices of the pictures that are held out in each fold; no person is in two.

    Raises:
        InputError: too few people, or none but one label is left to fit to.
    """
    from sklearn.model_selection import GroupKFold

    too_few = f"a calibration needs real and forged pictures of at least {FOLDS} people"
    if len(set(people)) < FOLDS:
        raise InputError(too_few)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels, people)
    held_out = [test for _, test in folds]
    if any(len(set(np.delete(labels, test).tolist())) < 2 for test in held_out):
        raise InputError(too_few)
    return held_out


def cross_validated(evidence: np.ndarray, labels: np.ndarray, folds: Sequence[np.ndarray]) -> np.ndarray:
    """P(fake) of each picture by a fit to other people's pictures."""
    probabilities = np.zeros(len(labels))
    for test in folds:
        weights, bias = fit(np.delete(evidence, test, axis=0), np.delete(labels, test))
        probabilities[test] = [sigmoid(value) for value in evidence[test] @ weights + bias]
    return probabilities


def certain_ones(
    held_out: np.ndarray, labels: np.ndarray, says_fake: np.ndarray, folds: Sequence[np.ndarray], accuracy: float
) -> np.ndarray:
    """Which pictures are certain, each by the band that the other folds' pictures ask for."""
    certain = np.zeros(len(labels), bool)
    for test in folds:
        band = uncertain_band(np.delete(labels, test), np.delete(held_out, test), accuracy)
        rule = Calibration({"score": 1.0}, uncertain=band)
        certain[test] = [not rule.is_uncertain(held_out[at], says_fake=bool(says_fake[at])) for at in test]
    return certain


def calibrate(records: Sequence[Record], analyses: Sequence[Analysis], options: Options) -> Calibration:
    """The calibration, with what it achieves on people that it was not fitted to.

    Raises:
        InputError: too few people, or scores that tell nothing apart.
    """
    from ffaa.methods.calibration import SCORES, scores_of

    # What states no verdict is never calibrated.
    read = [pair for pair in zip(records, analyses, strict=True) if pair[1].verdict is not Verdict.UNPARSED]
    scores = [scores_of(analysis) for _, analysis in read]
    names = [name for name in SCORES if any(score[name] is not None for score in scores)]
    evidence = np.array([[logit(score[name]) for name in names] for score in scores])
    labels = np.array([record.label == "fake" for record, _ in read])
    says_fake = np.array([analysis.verdict is Verdict.FAKE for _, analysis in read])
    folds = folds_of(labels, [record.group or record.id for record, _ in read])
    held_out = cross_validated(evidence, labels, folds)
    auc = roc_auc(labels, held_out) or 0.0
    if auc <= 0.5:
        raise InputError(
            f"{options.data}: the scores tell nothing apart (AUC {auc:.2f}); there is nothing to calibrate"
        )
    weights, bias = fit(evidence, labels)
    band = uncertain_band(labels, held_out, options.accuracy)
    right, certain = says_fake == labels, certain_ones(held_out, labels, says_fake, folds, options.accuracy)
    raw = [analysis.score for _, analysis in read]
    measured = {
        "n": len(records),
        "n_unparsed": len(records) - len(read),
        "people": len({record.group or record.id for record, _ in read}),
        "ece": expected_calibration_error(labels, held_out),
        "ece_of_the_score": expected_calibration_error(labels, raw),
        "auc": auc,
        "auc_of_the_score": roc_auc(labels, raw),
        "accuracy": float(right.sum() / len(records)),
        "coverage": float(certain.sum() / len(records)),
        "accuracy_where_certain": float(right[certain].mean()) if certain.any() else None,
        "accuracy_where_uncertain": float(right[~certain].mean()) if (~certain).any() else None,
    }
    return Calibration(dict(zip(names, map(float, weights), strict=True)), bias, band, measured=measured)


def main() -> int:
    options = parse(Options, prog="calibrate.py", description=__doc__ or "")
    from ffaa.methods.calibration import write_calibration

    records = read_records(options.data / "records.jsonl", files_must_exist=True)
    analyses, weights, generate_num = analyses_of(records, options)
    calibration = calibrate(records, analyses, options)
    write_calibration(replace(calibration, fitted_on=weights, generate_num=generate_num), options.checkpoint)
    print(f"weights {dict(calibration.weights)}, bias {calibration.bias:.3f}, uncertain within {calibration.uncertain}")
    for name, value in calibration.measured.items():
        print(f"{name}: {value if value is None or isinstance(value, int) else round(value, 4)}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
