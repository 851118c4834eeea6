from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffaa.metrics.calibration import Calibration, expected_calibration_error, logit, uncertain_band


def test_logits_are_clipped() -> None:
    assert logit(0.5) == 0 and logit(0.8) == pytest.approx(math.log(4))
    assert logit(1.0) == pytest.approx(-logit(0.0)) == pytest.approx(math.log((1 - 1e-4) / 1e-4))


def test_probability_by_hand() -> None:
    calibration = Calibration({"score": 2.0, "opening": 0.5}, bias=-1.0)
    total = -1.0 + 2 * math.log(4) + 0.5 * math.log(1 / 3)
    assert calibration.probability({"score": 0.8, "opening": 0.25}) == pytest.approx(1 / (1 + math.exp(-total)))
    # A missing score, and one of 0.5, speak neither way.
    assert calibration.probability({"score": 0.8, "opening": None}) == calibration.probability(
        {"score": 0.8, "opening": 0.5}
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0.01, 5))
def test_it_keeps_the_order_of_a_single_score(scores: list[float], weight: float) -> None:
    calibration = Calibration({"score": weight}, bias=0.3)
    probabilities = [calibration.probability({"score": score}) for score in sorted(scores)]
    assert probabilities == sorted(probabilities) and all(0 <= p <= 1 for p in probabilities)


def test_huge_weights_do_not_overflow() -> None:
    for weight, wanted in ((1e300, 1.0), (-1e300, 0.0)):
        assert Calibration({"score": weight}).probability({"score": 0.9}) == wanted


@pytest.mark.parametrize("wrong", [{"weights": {}}, {"bias": math.nan}, {"uncertain": (0.6, 0.7)}])
def test_what_is_no_calibration(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Calibration(**{"weights": {"score": 1.0}, **wrong})  # type: ignore[arg-type]


def test_what_is_uncertain() -> None:
    calibration = Calibration({"score": 1.0}, uncertain=(0.3, 0.7))
    assert calibration.is_uncertain(0.5, says_fake=True) and calibration.is_uncertain(0.69, says_fake=True)
    assert not calibration.is_uncertain(0.7, says_fake=True) and not calibration.is_uncertain(0.3, says_fake=False)
    # Certain of the opposite of what the chosen answer says.
    assert calibration.is_uncertain(0.9, says_fake=False) and calibration.is_uncertain(0.1, says_fake=True)


def test_calibration_error_by_hand() -> None:
    # Bin 0.2-0.3 states 0.25 and holds 1 of 2 forged; bin 0.9-1.0 states 0.95 and 1.0, both forged.
    labels, stated = [True, False, True, True], [0.25, 0.25, 0.95, 1.0]
    assert expected_calibration_error(labels, stated) == pytest.approx(0.5 * 0.25 + 0.5 * 0.025)
    assert expected_calibration_error([], []) is None


def test_calibration_error_is_that_of_scikit_learns_bins() -> None:
    from sklearn.calibration import calibration_curve

    random = np.random.default_rng(0)
    stated = random.random(500)
    labels = random.random(500) < stated**2
    shares, means = calibration_curve(labels, stated, n_bins=10)
    sizes = np.histogram(stated, bins=10, range=(0, 1))[0] / 500
    wanted = float((np.abs(shares - means) * sizes).sum())
    assert expected_calibration_error(labels, stated) == pytest.approx(wanted)


def test_the_band_is_the_narrowest_that_does() -> None:
    stated = [0.1, 0.2, 0.42, 0.45, 0.55, 0.58, 0.9, 0.95]
    labels = [False, False, True, True, False, True, True, True]
    low, high = uncertain_band(labels, stated, accuracy=1.0)
    # 0.42 is wrong, so that the band begins below it; its other end is as far from the middle.
    assert (low, high) == (0.41, 0.59)
    assert uncertain_band([True, False], [0.9, 0.1]) == (0.5, 0.5)
    assert uncertain_band([True, False], [0.01, 0.99]) == (0.05, 0.95)
