"""The five-line answer: read, written and masked.

``Field: value`` lines in the order of :data:`FIELDS`. Reading is forgiving about layout (case, bullets, numbering,
markdown, a space before the colon, values over several lines) and strict about meaning: the verdict is what the
``Analysis result`` field says, in one word or as a plain statement (``statements``), or :attr:`Verdict.UNPARSED`.
Nothing is inferred from other text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ffaa.dialogue.statements import read_statement
from ffaa.types import Answer, GeneratedText, Hypothesis, Verdict

DESCRIPTION = "Image description"
REASONING = "Forgery reasoning"
RESULT = "Analysis result"
PROBABILITY = "Probability"
FORGERY_TYPE = "Forgery type"
FIELDS = (DESCRIPTION, REASONING, RESULT, PROBABILITY, FORGERY_TYPE)

NO_FORGERY = "None"
"""The forgery type of a real face."""

TYPE_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "no": "none",
        "n/a": "none",
        "not applicable": "none",
        "no forgery": "none",
        "no manipulation": "none",
        "real": "none",
        "face swap": "identity swap",
        "face swapping": "identity swap",
        "faceswap": "identity swap",
        "identity swapping": "identity swap",
        "attribute manipulation": "facial attribute manipulation",
        "face attribute manipulation": "facial attribute manipulation",
        "facial attribute editing": "facial attribute manipulation",
        "entire face generation": "entire face synthesis",
        "full face synthesis": "entire face synthesis",
        "whole face synthesis": "entire face synthesis",
    }
)
"""Other spellings (casefolded) of forgery types, and the name they are compared under."""

_NAMES = "|".join(name.replace(" ", r"[ \t]++") for name in FIELDS)
# Possessive quantifiers: a line that is no field fails in one pass, however long it is.
_FIELD_LINE = re.compile(
    r"(?P<markup>[\s*_`#>+•·-]*+)(?:\(?[0-9]{1,2}[.)][\s*_`]*+)?"
    rf"(?P<name>{_NAMES})"
    r"[\s*_`]*+[:：](?P<value>.*)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?P<number>(?:[0-9]+\.?|[0-9]*\.[0-9]+))\s?(?P<percent>%?)")
_EMPHASIS = "*_`"
_LEADING = _EMPHASIS + "\"'“‘"
_LONGEST_STATEMENT = 200
"""Characters of a result field that may be a statement; more is a model that no longer keeps to the form."""
# No question mark here: "real?" is a doubt, not a verdict.
_TRAILING = _EMPHASIS + "\"'”’.,;:!。"


def _collapse(value: str) -> str:
    return " ".join(value.split())


def _bare(value: str) -> str:
    """The value without quotes, emphasis and closing punctuation around it."""
    return value.strip().lstrip(_LEADING).rstrip(_TRAILING + " \t").lstrip()


def _fields(text: str) -> dict[str, list[str]]:
    """The lines of each known field's first occurrence; later occurrences and text before the first field are left."""
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.splitlines():
        match = _FIELD_LINE.match(line)
        if match is None:
            if lines is not None:
                lines.append(line)
            continue
        name, value = _collapse(match["name"]).capitalize(), match["value"]
        if any(mark in match["markup"] for mark in _EMPHASIS):
            value = value.strip().strip(_EMPHASIS)
        # A repeated field still ends the one before it, but its own lines go nowhere.
        lines = [value]
        found.setdefault(name, lines)
    return found


def _first_line(lines: list[str]) -> str:
    return next((line.strip() for line in lines if line.strip()), "")


def _read_verdict(value: str) -> Verdict:
    word = _bare(value).casefold()
    if word in (Verdict.REAL, Verdict.FAKE):
        return Verdict(word)
    return read_statement(value) if len(value) <= _LONGEST_STATEMENT else Verdict.UNPARSED


def _read_probability(value: str) -> float | None:
    match = _NUMBER.fullmatch(_bare(value))
    if match is None:
        return None
    number = float(match["number"]) / (100.0 if match["percent"] else 1.0)
    return number if 0.0 <= number <= 1.0 else None


def parse(
    text: str,
    *,
    question: str = "",
    hypothesis: Hypothesis = Hypothesis.NONE,
    finished: bool = True,
    score: float | None = None,
) -> Answer:
    """Read an answer as the model wrote it. Never raises.

    Description and reasoning may span lines, up to the next known field; result, probability and type are the first
    line that is not blank. The first occurrence of a field counts, whatever follows it.

    Args:
        text: the answer, any string at all.
        question: what was asked.
        hypothesis: what the question presumed.
        finished: False when the token limit cut the answer.
        score: P(fake) at the verdict token, if known.

    Returns:
        The answer; its verdict is ``UNPARSED`` unless the result field says "real" or "fake" (any case, with quotes,
        emphasis or closing punctuation) or states it in a sentence (`statements.read_statement`). ``probability`` is
        None unless it is a number within 0..1 (or a percentage); ``forgery_type`` is None where the field is missing or
        empty.
    """
    fields = _fields(text)
    return Answer(
        text=text,
        verdict=_read_verdict(_first_line(fields.get(RESULT, []))),
        question=question,
        hypothesis=hypothesis,
        description=_collapse("\n".join(fields.get(DESCRIPTION, []))),
        reasoning=_collapse("\n".join(fields.get(REASONING, []))),
        probability=_read_probability(_first_line(fields.get(PROBABILITY, []))),
        forgery_type=_collapse(_first_line(fields.get(FORGERY_TYPE, []))) or None,
        finished=finished,
        score=score,
    )


def read(text: GeneratedText, *, question: str, hypothesis: Hypothesis = Hypothesis.NONE) -> Answer:
    """:func:`parse` for what a language model gave to a question, with all that is known of it."""
    answer = parse(text.text, question=question, hypothesis=hypothesis, finished=text.finished, score=text.score)
    return replace(answer, opening_score=text.opening_score)


def format_answer(
    description: str, reasoning: str, verdict: Verdict, probability: float, forgery_type: str | None
) -> str:
    """The five-line answer that :func:`parse` reads back, without a newline at its end.

    White space within a value is collapsed, so that each field is one line; the probability (0..1) is written with at
    most four decimals; a missing type is written ``None``.

    Raises:
        ValueError: the verdict is neither real nor fake, or the probability is outside 0..1.
    """
    if verdict not in (Verdict.REAL, Verdict.FAKE):
        raise ValueError(f"an answer states real or fake, not {verdict!r}")
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"the probability must be within 0..1, got {probability}")
    number = f"{probability:.4f}".rstrip("0").rstrip(".")
    values = (description, reasoning, str(verdict), number, forgery_type or NO_FORGERY)
    return "\n".join(f"{name}: {_collapse(value)}".rstrip() for name, value in zip(FIELDS, values, strict=True))


def mask(answer: str | Answer) -> str:
    """The answer as MIDS may read it: description and reasoning, without result, probability and type.

    A field that the answer lacks stays empty; the text of an answer that has neither is not passed on, for it could
    hold the verdict.
    """
    parsed = parse(answer) if isinstance(answer, str) else answer
    return f"{DESCRIPTION}: {parsed.description}\n{REASONING}: {parsed.reasoning}"


def canonical_type(text: str | None, aliases: Mapping[str, str] = TYPE_ALIASES) -> str | None:
    """The name under which a forgery type is compared: casefolded, white space and punctuation tidied, alias resolved.

    Args:
        text: a type as an answer or a benchmark gives it.
        aliases: casefolded spelling -> casefolded name.

    Returns:
        The name (``"none"`` for no forgery), or None where no type is given.
    """
    if text is None:
        return None
    name = _collapse(re.sub(r"[\s_-]+", " ", _bare(text).casefold()))
    return aliases.get(name, name) or None
