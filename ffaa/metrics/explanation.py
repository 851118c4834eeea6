"""Whether what answers say is true: claims against facts, what hypotheses do to verdicts, and how much answers differ.

Each figure stands beside what no look at the picture would score: the commonest claim everywhere, or chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ffaa.metrics.detection import share

Claims = Mapping[str, str | None]


def claim_accuracy(claimed: Sequence[Claims], true: Sequence[Claims], slots: Sequence[str]) -> dict[str, Any]:
    """Per slot, how often the claim is the true one, over the pictures of which something is true there.

    Returns:
        slot -> ``share`` of right claims, and ``majority``, the share of the commonest truth.
    """
    figures = {}
    for slot in slots:
        pairs = [(one[slot], other[slot]) for one, other in zip(claimed, true, strict=True) if other[slot] is not None]
        common = Counter(truth for _, truth in pairs).most_common(1)
        figures[slot] = {
            **share(sum(one == truth for one, truth in pairs), len(pairs)),
            "majority": common[0][1] / len(pairs) if common else None,
        }
    return figures


def naming(claimed: Sequence[str | None], true: Sequence[str | None]) -> dict[str, Any]:
    """How well the one part that was edited is named.

    Args:
        claimed: (n,) the part that an answer names; None where it names none.
        true: (n,) the part that was edited; None for a picture without an edit of one part.

    Returns:
        ``precision``: right names among all that were named, on whatever picture; ``recall``: pictures with such an
        edit whose part is named; ``by_part``: recall of each; ``most_frequent`` and ``chance``: the recall of naming
        the commonest part, or one at random of those that occur, on every such picture.
    """
    pairs = list(zip(claimed, true, strict=True))
    edited = [(name, part) for name, part in pairs if part is not None]
    right = sum(name == part for name, part in edited)
    parts = Counter(part for _, part in edited)
    return {
        "precision": share(right, sum(name is not None for name, _ in pairs)),
        "recall": share(right, len(edited)),
        "by_part": {
            part: share(sum(name == part == other for name, other in edited), count)
            for part, count in sorted(parts.items())
        },
        "most_frequent": max(parts.values()) / len(edited) if edited else None,
        "chance": 1 / len(parts) if parts else None,
    }


FIELDS = ("description", "reasoning", "verdict", "probability", "forgery_type")


def completeness(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Which fields answers have, from the answers in lines of ``predictions.jsonl``.

    Returns:
        ``fields``: the share of answers that fill each of ``FIELDS``; ``complete``: that fill all of them;
        ``unparsed``: whose verdict cannot be read; ``truncated``: that the token limit cut. All as ``share``.
    """
    filled = [
        {
            name: answer["verdict"] in ("real", "fake") if name == "verdict" else answer.get(name) not in (None, "")
            for name in FIELDS
        }
        for answer in answers
    ]
    n = len(answers)
    return {
        "fields": {name: share(sum(one[name] for one in filled), n) for name in FIELDS},
        "complete": share(sum(all(one.values()) for one in filled), n),
        "unparsed": share(sum(not one["verdict"] for one in filled), n),
        "truncated": share(sum(not answer["finished"] for answer in answers), n),
    }


def hypothesis_effect(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a question that presumes a verdict does to the answer, from lines of ``predictions.jsonl``.

    Returns:
        ``wrong_flips``: of the free answers that were right, how many say the opposite once a wrong verdict is
        presumed; ``right_mends``: of those that were wrong, how many are right once the truth is presumed;
        ``disagree``: pictures whose answers do not all give one verdict; ``to_fake`` and ``to_real``: of the free
        answers that said real (fake), right or wrong, how many say the opposite once that is presumed.
    """
    flips, right_free, mends, wrong_free, disagree, several = 0, 0, 0, 0, 0, 0
    turned: dict[str, list[bool]] = {"real": [], "fake": []}
    for line in lines:
        said = {answer["hypothesis"]: answer["verdict"] for answer in line["answers"]}
        truth = line["label"]
        other = "fake" if truth == "real" else "real"
        if not {"none", "real", "fake"} <= set(said):
            continue
        several += 1
        disagree += len(set(said.values())) > 1
        if (free := said["none"]) in turned:
            opposite = "fake" if free == "real" else "real"
            turned[opposite].append(said[opposite] == opposite)
        if said["none"] == truth:
            right_free += 1
            flips += said[other] == other
        else:
            wrong_free += 1
            mends += said[truth] == truth
    return {
        "wrong_flips": share(flips, right_free),
        "right_mends": share(mends, wrong_free),
        "disagree": share(disagree, several),
        **{f"to_{verdict}": share(sum(moved), len(moved)) for verdict, moved in turned.items()},
    }


def variety(texts: Sequence[str]) -> dict[str, Any]:
    """How many texts differ, and ``distinct_n``: different n-grams of words over all n-grams (Li et al. 2016)."""
    figures: dict[str, Any] = {"n": len(texts), "n_different": len(set(texts))}
    for n in (1, 2, 3):
        grams = [tuple(words[i : i + n]) for words in map(str.split, texts) for i in range(len(words) - n + 1)]
        figures[f"distinct_{n}"] = len(set(grams)) / len(grams) if grams else None
    return figures


def opening_bias(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean P(fake) at the free answer's first deciding token, less the share of forged pictures."""
    scored = [
        (line["answers"][0]["opening_score"], line["label"] == "fake")
        for line in lines
        if line["answers"] and line["answers"][0].get("opening_score") is not None
    ]
    return float(np.mean([score - fake for score, fake in scored])) if scored else None
