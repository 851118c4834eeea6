from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from ffaa.metrics.ranking import average_precision, bootstrap_intervals, roc_auc


def scored(n: int, distinct: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    labels[:2] = [0, 1]
    scores = rng.integers(0, distinct, n) / distinct + 0.2 * labels * (distinct > 50)
    return labels, scores


@pytest.mark.parametrize("distinct", [1, 2, 3, 10, 1_000_000])
@pytest.mark.parametrize("n", [2, 3, 60, 1000])
def test_equals_scikit_learn(n: int, distinct: int) -> None:
    for seed in range(10):
        labels, scores = scored(n, distinct, seed)
        assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([-1.0, 0.0, 0.1, 0.5, 1.0, 3e300])), min_size=1, max_size=30))
def test_equals_scikit_learn_with_ties(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = [p[0] for p in pairs], [p[1] for p in pairs]
    if len(set(labels)) < 2:
        assert roc_auc(labels, scores) is average_precision(labels, scores) is None
    else:
        assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
        assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores))


@pytest.mark.parametrize("labels", [[], [0, 0, 0], [1, 1]])
def test_one_class_has_no_ranking(labels: list[int]) -> None:
    scores = np.linspace(0, 1, len(labels))
    assert roc_auc(labels, scores) is None
    assert average_precision(labels, scores) is None
    assert bootstrap_intervals(labels, scores) == {"auc": None, "average_precision": None}


def test_golden_numbers() -> None:
    labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
    assert roc_auc(labels, scores) == 0.75
    assert average_precision(labels, scores) == pytest.approx(5 / 6)


@pytest.mark.parametrize("scores", [[0.1, float("nan")], [0.1, float("inf")]])
def test_scores_must_be_finite(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        roc_auc([0, 1], scores)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="one length"):
        average_precision([0, 1, 1], [0.1, 0.2])


def test_intervals_do_not_depend_on_the_order() -> None:
    labels, scores = scored(200, 20, seed=3)
    order = np.random.default_rng(1).permutation(200)
    assert bootstrap_intervals(labels, scores) == bootstrap_intervals(labels[order], scores[order])
    assert bootstrap_intervals(labels, scores) != bootstrap_intervals(labels, scores, seed=1)


def test_intervals_agree_with_a_plain_stratified_bootstrap() -> None:
    labels, scores = scored(150, 1_000_000, seed=5)
    rng = np.random.default_rng(7)
    fakes, reals = np.flatnonzero(labels), np.flatnonzero(labels == 0)
    aucs, precisions = [], []
    for _ in range(1500):
        picked = np.concatenate([rng.choice(fakes, fakes.size), rng.choice(reals, reals.size)])
        aucs.append(roc_auc_score(labels[picked], scores[picked]))
        precisions.append(average_precision_score(labels[picked], scores[picked]))
    found = bootstrap_intervals(labels, scores)
    assert found["auc"] == pytest.approx(np.percentile(aucs, [2.5, 97.5]), abs=0.015)
    assert found["average_precision"] == pytest.approx(np.percentile(precisions, [2.5, 97.5]), abs=0.015)


def test_ten_thousand_pictures_take_seconds() -> None:
    labels, scores = scored(10_000, 1_000_000, seed=0)
    start = time.perf_counter()
    low, high = bootstrap_intervals(labels, scores)["auc"] or (0.0, 0.0)
    assert low < (roc_auc(labels, scores) or 0) < high
    assert time.perf_counter() - start < 10
