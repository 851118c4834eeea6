"""Figures by group of people are those of the group alone; differences have their variance and sign."""

from __future__ import annotations

import numpy as np
import pytest

from ffaa.metrics.detection import decision_metrics, wilson_interval
from ffaa.metrics.intervals import difference_of_two
from ffaa.metrics.subgroups import subgroup_metrics


def drawn(
    n_people: int, seed: int, right: tuple[float, float]
) -> tuple[list[str], list[str], list[float], list[str], list[str]]:
    """Labels, verdicts, scores, people and groups: ten pictures a person, groups right as often as ``right`` says."""
    rng = np.random.default_rng(seed)
    labels, verdicts, scores, people, groups = [], [], [], [], []
    for person in range(n_people):
        for picture in range(10):
            label = ("real", "fake")[picture % 2]
            correct = rng.random() < right[person % 2]
            verdict = label if correct else ("fake", "real")[picture % 2]
            labels.append(label)
            verdicts.append(verdict)
            scores.append(0.25 + 0.5 * (verdict == "fake") + 0.1 * rng.random())
            people.append(f"person {person}")
            groups.append("ab"[person % 2])
    return labels, verdicts, scores, people, groups


def test_a_group_has_the_figures_of_its_pictures_alone() -> None:
    labels, verdicts, scores, people, groups = drawn(40, 0, (0.95, 0.6))
    found = subgroup_metrics(labels, verdicts, scores, people, groups)
    assert list(found) == ["a", "b"] and found["a"]["n_people"] == found["b"]["n_people"] == 20
    inside = [at for at, group in enumerate(groups) if group == "b"]
    alone = decision_metrics(
        [labels[at] for at in inside], [verdicts[at] for at in inside], [scores[at] for at in inside],
        groups=[people[at] for at in inside],
    )  # fmt: skip
    assert {name: found["b"][name] for name in alone} == alone


def test_a_difference_is_seen_and_none_is_not_made_up() -> None:
    apart = subgroup_metrics(*drawn(60, 1, (0.95, 0.6)))
    difference, interval = apart["a"]["differences"]["accuracy"]
    assert difference == pytest.approx(apart["a"]["accuracy"] - apart["b"]["accuracy"])
    assert interval is not None and 0 < interval[0] < difference < interval[1]
    mirrored, other = apart["b"]["differences"]["accuracy"]
    assert other is not None and mirrored == pytest.approx(-difference) and other[1] < 0
    # Of sixty sets without a difference, the interval should miss 0 in about three.
    missed = 0
    for seed in range(60):
        _, interval = subgroup_metrics(*drawn(40, 100 + seed, (0.8, 0.8)))["a"]["differences"]["accuracy"]
        assert interval is not None
        missed += not interval[0] <= 0 <= interval[1]
    assert missed <= 8


def test_one_difference_is_newcombes() -> None:
    # Newcombe 1998, Statistics in Medicine 17, method 10: 56/70 - 48/80 gives .2000 [.0524, .3339].
    first, second = wilson_interval(56, 70), wilson_interval(48, 80)
    assert first is not None and second is not None
    difference, interval = difference_of_two(56 / 70, first, 48 / 80, second)
    assert (difference, *interval) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)
    mirrored, other = difference_of_two(48 / 80, second, 56 / 70, first)
    assert (mirrored, *other) == pytest.approx((-difference, -interval[1], -interval[0]))


def test_a_few_people_of_whom_all_are_right_are_not_known_exactly() -> None:
    labels = ["real"] * 106
    verdicts = ["real"] * 96 + ["fake"] * 10
    people = [str(at) for at in range(106)]
    found = subgroup_metrics(labels, verdicts, None, people, ["few"] * 6 + ["many"] * 100)
    difference, (low, high) = found["few"]["differences"]["accuracy"]
    assert difference == pytest.approx(0.1) and low < -0.2 and high < 0.2
    assert set(found["few"]["differences"]) == {"accuracy", "recall_real"}


@pytest.mark.parametrize(("sizes", "right"), [((10, 100), 0.95), ((8, 40), 0.9), ((21, 87), 0.9)])
def test_a_small_group_is_seldom_called_different_for_nothing(sizes: tuple[int, int], right: float) -> None:
    missed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        people = np.repeat(np.arange(sum(sizes)), 4)
        labels = np.tile(["real", "fake"], 2 * sum(sizes))
        wrong = np.where(labels == "real", "fake", "real")
        verdicts = np.where(rng.random(people.size) < right, labels, wrong)
        groups = ["ab"[int(person >= sizes[0])] for person in people]
        found = subgroup_metrics(list(labels), list(verdicts), None, [str(one) for one in people], groups)
        low, high = found["a"]["differences"]["accuracy"][1]
        missed += not low <= 0 <= high
    assert missed <= 14


def test_what_is_not_defined_is_left_out() -> None:
    labels = ["real", "real", "fake", "real"]
    found = subgroup_metrics(labels, labels, None, ["p", "p", "q", "r"], ["a", "a", "b", None])
    assert found["a"]["auc"] is None and found["a"]["n"] == 2
    assert "recall_fake" not in found["a"]["differences"]
    difference, (low, high) = found["a"]["differences"]["accuracy"]
    assert difference == 0 and low < -0.5 and high > 0.5  # one person on either side
    alone = subgroup_metrics(labels, labels, [0.1, 0.2, 0.9, 0.1], list("pqrs"), ["a"] * 4)
    assert alone["a"]["differences"] == {} and alone["a"]["auc"] == 1
    assert subgroup_metrics(labels, labels, None, list("pqrs"), [None] * 4) == {}
