"""Error rates by group of people, and how far each group is from all others."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from ffaa.metrics.detection import decision_metrics
from ffaa.metrics.intervals import difference_of_two
from ffaa.metrics.ranking import Interval

COMPARED = ("accuracy", "recall_real", "recall_fake", "auc")
"""Figures whose differences are given."""


def subgroup_metrics(
    labels: Sequence[str],
    verdicts: Sequence[str],
    scores: Sequence[float | None] | None,
    people: Sequence[str],
    groups: Sequence[str | None],
    *,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Figures of each group, in the order of their names.

    Args:
        labels: (n,) ``real`` or ``fake``.
        verdicts: (n,) as of `ffaa.metrics.detection.decision_metrics`.
        scores: (n,) P(fake), None where there is none.
        people: (n,) whose picture each is: intervals are over people.
        groups: (n,) each picture's group; None leaves it out of all, and out of what groups are compared with.
        seed: of the bootstrap.

    Returns:
        Group -> the figures of a decision, ``n_people``, and ``differences``: figure of `COMPARED` -> (the group's less
        that of all other groups together, its 95 % interval), without those that are not defined on both sides.
    """

    @functools.cache  # of two groups, each is the other's others
    def figures(chosen: tuple[int, ...]) -> dict[str, Any]:
        return decision_metrics(
            [labels[at] for at in chosen],
            [verdicts[at] for at in chosen],
            None if scores is None else [scores[at] for at in chosen],
            groups=[people[at] for at in chosen],
            seed=seed,
        )

    found = {}
    for group in sorted({group for group in groups if group is not None}):
        inside = tuple(at for at, name in enumerate(groups) if name == group)
        others = tuple(at for at, name in enumerate(groups) if name not in (group, None))
        own = figures(inside)
        differences = _differences(own, figures(others)) if others else {}
        found[group] = {**own, "n_people": len({people[at] for at in inside}), "differences": differences}
    return found


def _differences(own: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, tuple[float, Interval]]:
    return {
        name: difference_of_two(own[name], own[f"{name}_interval"], others[name], others[f"{name}_interval"])
        for name in COMPARED
        if own[name] is not None and others[name] is not None
    }
