"""How FFAA decides: from the four MIDS logits of each answer and what the answer says, to one verdict and score.

Classes of a row: 0 = real picture, answer says real; 1 = real, says fake; 2 = fake, says real; 3 = fake, says fake.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ffaa.metrics.calibration import sigmoid
from ffaa.types import InputError, Verdict

REAL_AND_RIGHT, REAL_BUT_SAYS_FAKE, FAKE_BUT_SAYS_REAL, FAKE_AND_RIGHT = range(4)

# The pair (right, wrong) of classes that agrees with what the answer says.
CLASSES_OF_VERDICT = {
    Verdict.REAL: (REAL_AND_RIGHT, FAKE_BUT_SAYS_REAL),
    Verdict.FAKE: (FAKE_AND_RIGHT, REAL_BUT_SAYS_FAKE),
}


@dataclass(frozen=True)
class Decision:
    """``match_scores[i]`` = P(answer i is right, given what it says), None where the answer says nothing.

    ``score`` = P(fake) in [0, 1]; ``chosen`` indexes the answers.
    """

    chosen: int
    verdict: Verdict
    score: float
    match_scores: tuple[float | None, ...]


def match_logit(row: Sequence[float], verdict: Verdict) -> float:
    """Log odds that an answer saying ``verdict`` is right: ``row[0] - row[2]`` for real, ``row[3] - row[1]`` for fake.

    Raises InputError for an unparsed verdict, which has none.
    """
    if verdict not in CLASSES_OF_VERDICT:
        raise InputError("an unparsed answer has no match logit")
    right, wrong = CLASSES_OF_VERDICT[verdict]
    return float(row[right]) - float(row[wrong])


def fake_probability(row: Sequence[float]) -> float:
    """P(picture is fake) whatever the answer says: classes 2 and 3 of the softmax of ``row`` (4 logits)."""
    values = [float(value) for value in row]
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return (powers[FAKE_BUT_SAYS_REAL] + powers[FAKE_AND_RIGHT]) / sum(powers)


def decide(logits: Sequence[Sequence[float]], verdicts: Sequence[Verdict]) -> Decision:
    """The answer most likely right, and what follows for the picture (FFAA's selection rule).

    ``logits`` has a row of 4 per answer, ``verdicts`` what each answer says. The match score is the sigmoid of
    ``match_logit``, which equals p0 / (p0 + p2) or p3 / (p3 + p1) of the softmax; the first of equal ones wins; the
    score is the match score when the chosen answer says fake, else one minus it. Unparsed answers are not candidates;
    where no answer is parsed the verdict is UNPARSED, answer 0 is chosen, and the score is the mean of
    ``fake_probability``. Raises InputError when the two lengths differ, there is no answer, or a row has not four
    values.
    """
    if len(logits) != len(verdicts) or not verdicts:
        raise InputError(f"{len(logits)} rows of logits for {len(verdicts)} answers")
    if any(len(row) != 4 for row in logits):
        raise InputError("a row of MIDS logits has four values")
    margins = [
        match_logit(row, verdict) if verdict in CLASSES_OF_VERDICT else None
        for row, verdict in zip(logits, verdicts, strict=True)
    ]
    matches = tuple(None if margin is None else sigmoid(margin) for margin in margins)
    # Compared before the sigmoid, which rounds all large margins to 1.
    candidates = [(margin, -index) for index, margin in enumerate(margins) if margin is not None]
    if not candidates:
        return Decision(0, Verdict.UNPARSED, sum(map(fake_probability, logits)) / len(logits), matches)
    margin, negative_index = max(candidates)
    verdict = verdicts[-negative_index]
    score = sigmoid(margin if verdict is Verdict.FAKE else -margin)
    return Decision(-negative_index, verdict, score, matches)
