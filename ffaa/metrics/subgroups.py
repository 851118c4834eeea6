"""Error rates by group of people, and how far each group is from all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffaa.metrics.detection import decision_metrics
from ffaa.metrics.intervals import Pictures, difference_intervals
from ffaa.metrics.ranking import Interval


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
        people: (n,) whose picture each is: intervals are over people, who should be in one group each.
        groups: (n,) each picture's group; None leaves it out of all, and out of what groups are compared with.
        seed: of the bootstrap.

    Returns:
        Group -> the figures of a decision, ``n_people``, and ``differences``: figure -> (the group's less that of all
        other groups together, its 95 % interval); empty where there is no other group.
    """
    found = {}
    for group in sorted({group for group in groups if group is not None}):
        inside = [at for at, name in enumerate(groups) if name == group]
        others = [at for at, name in enumerate(groups) if name not in (group, None)]
        own = [people[at] for at in inside]
        found[group] = {
            **decision_metrics(
                [labels[at] for at in inside],
                [verdicts[at] for at in inside],
                None if scores is None else [scores[at] for at in inside],
                groups=own,
                seed=seed,
            ),
            "n_people": len(set(own)),
            "differences": _differences(labels, verdicts, scores, people, inside, others, seed),
        }
    return found


def _differences(
    labels: Sequence[str],
    verdicts: Sequence[str],
    scores: Sequence[float | None] | None,
    people: Sequence[str],
    inside: Sequence[int],
    others: Sequence[int],
    seed: int,
) -> dict[str, tuple[float, Interval | None]]:
    if not others:
        return {}
    fake = np.array([label == "fake" for label in labels], dtype=bool)
    right = np.array([label == verdict for label, verdict in zip(labels, verdicts, strict=True)], dtype=bool)
    ranked = None if scores is None else np.array([0.5 if score is None else score for score in scores])
    first, second = (
        Pictures(fake[at], right[at], None if ranked is None else ranked[at], [people[one] for one in at])
        for at in (list(inside), list(others))
    )
    return difference_intervals(first, second, seed=seed)
