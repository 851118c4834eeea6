"""Figures by group of people are those of the group alone; differences have their variance and sign."""

from __future__ import annotations

import numpy as np
import pytest

from ffaa.metrics.detection import decision_metrics
from ffaa.metrics.intervals import Pictures, difference_intervals, group_intervals
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


def test_a_difference_varies_as_two_independent_figures_do() -> None:
    labels, verdicts, scores, people, groups = drawn(200, 2, (0.9, 0.7))
    sides = []
    for name in "ab":
        at = np.array([group == name for group in groups])
        right = np.array([label == verdict for label, verdict in zip(labels, verdicts, strict=True)])
        fake = np.array([label == "fake" for label in labels])
        sides.append(Pictures(fake[at], right[at], np.array(scores)[at], list(np.array(people)[at])))
    found = difference_intervals(*sides)
    widths = []
    for side in sides:
        interval = group_intervals(side)["accuracy"]
        assert interval is not None
        widths.append(interval[1] - interval[0])
    _, interval = found["accuracy"]
    assert interval is not None
    assert interval[1] - interval[0] == pytest.approx(float(np.hypot(widths[0], widths[1])), rel=0.1)
    assert set(found) >= {"accuracy", "recall_real", "recall_fake", "auc"}


def test_what_is_not_defined_is_left_out() -> None:
    labels = ["real", "real", "fake", "real"]
    found = subgroup_metrics(labels, labels, None, ["p", "p", "q", "r"], ["a", "a", "b", None])
    assert found["a"]["auc"] is None and found["a"]["n"] == 2
    assert "recall_fake" not in found["a"]["differences"]
    difference, interval = found["a"]["differences"]["accuracy"]
    assert difference == 0 and interval is None  # one person on either side
    alone = subgroup_metrics(labels, labels, [0.1, 0.2, 0.9, 0.1], list("pqrs"), ["a"] * 4)
    assert alone["a"]["differences"] == {} and alone["a"]["auc"] == 1
    assert subgroup_metrics(labels, labels, None, list("pqrs"), [None] * 4) == {}
