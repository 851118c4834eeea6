from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from ffaa.metrics.curves import best_threshold, equal_error_rate, roc_curve
from ffaa.metrics.ranking import roc_auc


@pytest.mark.parametrize("distinct", [1, 2, 5, 100_000])
@pytest.mark.parametrize("seed", range(5))
def test_curve_and_equal_error_rate_equal_scikit_learn(distinct: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(0, 2, 80)])
    scores = np.floor(np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 0.999) * distinct) / distinct
    false, true, thresholds = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    found = roc_curve(labels, scores)
    assert found is not None
    np.testing.assert_allclose(found.false_positive_rate, false)
    np.testing.assert_allclose(found.true_positive_rate, true)
    np.testing.assert_allclose(found.thresholds, thresholds)
    # Where the straight lines between the points meet the diagonal from (0, 1) to (1, 0), by bisection.
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - np.interp(middle, false, true) > middle else (low, middle)
    # A vertical step crosses the diagonal at one false positive rate, which bisection finds as well.
    assert equal_error_rate(labels, scores) == pytest.approx(low, abs=1e-9)


def test_by_hand() -> None:
    assert equal_error_rate([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == 0.0
    assert equal_error_rate([0, 0, 1, 1], [0.8, 0.9, 0.1, 0.2]) == 1.0
    assert equal_error_rate([0, 1], [0.5, 0.5]) == 0.5
    assert equal_error_rate([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9]) == 0.5
    # Reals .1 .2 .3 .7, fakes .4 .8: (.25, .5) is passed on the way to (.25, 1), where 1 - tpr = fpr at .25.
    assert equal_error_rate([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.4, 0.8]) == pytest.approx(0.25)


@pytest.mark.parametrize("labels", [[], [0, 0], [1]])
def test_one_class_is_undefined(labels: list[int]) -> None:
    scores = [0.5] * len(labels)
    for figure in (roc_curve, equal_error_rate, best_threshold):
        assert figure(labels, scores) is None


def test_bad_scores() -> None:
    with pytest.raises(ValueError, match="finite"):
        roc_curve([0, 1], [0.1, float("nan")])
    with pytest.raises(ValueError, match="one length"):
        roc_curve([0, 1], [0.1])


def test_few_points_keep_the_ends_and_the_shape() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    scores = rng.normal(labels, 1)
    curve = roc_curve(labels, scores)
    assert curve is not None
    points = curve.points(200)
    assert len(points) <= 200 and points[0] == [0.0, 0.0, None] and points[-1][:2] == [1.0, 1.0]
    false, true = (np.array([point[at] for point in points], dtype=float) for at in (0, 1))
    assert float(np.trapezoid(true, false)) == pytest.approx(roc_auc(labels, scores), abs=1e-3)


rows = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.6, 1.0])), min_size=2, max_size=25)


@settings(max_examples=200, deadline=None)
@given(rows)
def test_no_other_threshold_is_better(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    found = best_threshold(labels, scores)
    if found is None:
        assert len(set(labels.tolist())) < 2
        return
    reached = balanced_accuracy_score(labels, scores > found["threshold"])
    assert found["balanced_accuracy"] == pytest.approx(reached)
    assert reached >= max(balanced_accuracy_score(labels, scores > t) for t in np.linspace(-0.05, 1.05, 60)) - 1e-9
    assert 0 <= (equal_error_rate(labels, scores) or 0.0) <= 1


def test_the_threshold_lies_between_the_scores_it_parts() -> None:
    found = best_threshold([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4])
    assert found == {"threshold": pytest.approx(0.25), "balanced_accuracy": 1.0, "n": 4}
