from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from ffaa.metrics.comparison import delong, mcnemar
from ffaa.metrics.intervals import Pictures, paired_auc_difference


@pytest.mark.parametrize(("b", "c", "both"), [(0, 0, 5), (1, 0, 0), (5, 5, 3), (12, 3, 20), (0, 9, 1), (150, 97, 800)])
def test_exact_p_is_the_binomial_tests(b: int, c: int, both: int) -> None:
    first = [True] * b + [False] * c + [True] * both
    second = [False] * b + [True] * c + [True] * both
    found = mcnemar(first, second)
    assert found is not None
    expected = binomtest(min(b, c), b + c).pvalue if b + c else 1.0
    assert found.p == pytest.approx(expected)
    assert (found.only_first, found.only_second, found.n) == (b, c, b + c + both)
    assert found.difference == pytest.approx((b - c) / found.n)
    assert found.interval[0] <= found.difference + 0.05 and found.mid_p <= found.p


def test_mid_p_by_hand() -> None:
    # 1 against 4: twice (P(0) + P(1) / 2) of five coins = 2 (1 + 2.5) / 32
    found = mcnemar([True] + [False] * 4, [False] + [True] * 4)
    assert found is not None
    assert found.mid_p == pytest.approx(7 / 32) and found.p == pytest.approx(12 / 32)


def test_interval_by_hand() -> None:
    # b = 6, c = 2, n = 20: (7 - 3) / 22 +- 1.96 sqrt((10 / 22 - (4 / 22)^2) / 22)
    found = mcnemar([True] * 6 + [False] * 2 + [True] * 12, [False] * 6 + [True] * 2 + [True] * 12)
    assert found is not None
    half = 1.959964 * math.sqrt((10 / 22 - (4 / 22) ** 2) / 22)
    assert found.interval == pytest.approx((4 / 22 - half, 4 / 22 + half), abs=1e-6)


def test_no_pictures_and_other_pictures() -> None:
    assert mcnemar([], []) is None
    with pytest.raises(ValueError, match="same pictures"):
        mcnemar([True], [True, False])
    with pytest.raises(ValueError, match="one length"):
        delong([0, 1], [0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="finite"):
        delong([0, 1], [0.1, math.nan], [0.1, 0.2])


def test_delong_against_all_pairs() -> None:
    """The textbook form: covariances of the placement values, from the matrix of all pairs."""
    rng = np.random.default_rng(3)
    labels = np.array([0] * 30 + [1] * 20)
    first = np.round(rng.normal(labels, 1), 1)
    second = np.round(rng.normal(0.5 * labels, 1), 1)
    wins = [
        (s[labels == 1][:, None] > s[labels == 0][None]) + 0.5 * (s[labels == 1][:, None] == s[labels == 0][None])
        for s in (first, second)
    ]
    by_fake, by_real = np.cov([w.mean(axis=1) for w in wins]), np.cov([w.mean(axis=0) for w in wins])
    cov = by_fake / 20 + by_real / 30
    variance = cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]
    found = delong(labels, first, second)
    assert found is not None
    assert found.aucs == pytest.approx((roc_auc_score(labels, first), roc_auc_score(labels, second)))
    assert found.difference == pytest.approx(found.aucs[0] - found.aucs[1])
    assert found.interval is not None
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.959964 * math.sqrt(variance), abs=1e-6)
    assert found.p == pytest.approx(math.erfc(abs(found.difference) / math.sqrt(2 * variance)))


def test_delong_agrees_with_the_paired_bootstrap() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 400)
    shared = rng.normal(labels, 1)
    first, second = shared + rng.normal(0, 0.5, 400), shared + rng.normal(0, 1.0, 400)
    alone = Pictures(labels == 1, labels == 1, first, [str(at) for at in range(400)])
    found, sampled = delong(labels, first, second), paired_auc_difference(alone, second)
    assert found is not None and sampled is not None
    assert found.difference == pytest.approx(sampled[0])
    assert found.interval == pytest.approx(sampled[1], abs=0.005)


@pytest.mark.parametrize("labels", [[], [0, 0], [1]])
def test_one_class_has_no_delong(labels: list[int]) -> None:
    assert delong(labels, [0.5] * len(labels), [0.5] * len(labels)) is None


def test_degenerate_scores() -> None:
    labels = [0, 0, 1, 1]
    same = delong(labels, [0.5] * 4, [0.5] * 4)
    assert same is not None and (same.difference, same.p, same.interval) == (0.0, 1.0, (0.0, 0.0))
    opposite = delong(labels, [0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1])
    assert opposite is not None and (opposite.difference, opposite.p) == (1.0, None)


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 0, 1], [0, 1, 1, 1]])
def test_one_picture_of_a_class_tells_no_variance(labels: list[int]) -> None:
    first, second = [0.2, 0.4, 0.6, 0.5][: len(labels)], [0.5, 0.4, 0.1, 0.2][: len(labels)]
    for scores in (first, second):
        found = delong(labels, first, scores)
        assert found is not None and (found.p, found.interval) == (None, None)
        assert found.difference == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, scores))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), max_size=20
    )
)
def test_swapping_the_two_turns_the_sign(rows: list[tuple[bool, float, float]]) -> None:
    labels, first, second = ([row[at] for row in rows] for at in range(3))
    one, other = delong(labels, first, second), delong(labels, second, first)
    if one is None or other is None:
        assert one is None and other is None
        return
    assert one.difference == pytest.approx(-other.difference)
    if one.interval is None or other.interval is None:
        assert one.interval is None and other.interval is None and min(sum(labels), len(labels) - sum(labels)) == 1
    else:
        assert one.interval[0] == pytest.approx(-other.interval[1])
    assert one.p == pytest.approx(other.p) and (one.p is None or 0 <= one.p <= 1)


def test_the_level_is_held() -> None:
    """Two scores that are equally good differ at 5 % in about 5 % of the samples."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        labels = np.array([0, 1] * 50)
        shared = rng.normal(labels, 1)
        found = delong(labels, shared + rng.normal(0, 1, 100), shared + rng.normal(0, 1, 100))
        hits += found is not None and found.p is not None and found.p < 0.05
    assert 8 <= hits <= 34
