"""Whether a sentence calls a picture real or fake: words, negations, contrasts and questions; and how others read it.

For English. What is no statement (a question, an alternative, a condition, a word about realism, another language) is
:attr:`Verdict.UNPARSED`, never a guess. The first sentence that states a verdict counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ffaa.types import Verdict

_FAKE = (
    r"fake[sd]?|faked|forged|forger(?:y|ies)|manipulated|doctored|fabricated|counterfeit|synthetic|synthesi[sz]ed|tampered|"
    r"deep ?-?fakes?|altered|edited|inauthentic|photoshopped|"
    r"(?:computer|machine|artificially|ai|digitally)[- ](?:generated|made|created|altered)"
)
_REAL = r"real|genuine|authentic|original|unaltered|unedited|unmanipulated|untampered"
_SIGNS = (
    r"(?:signs?|evidence|traces?|indications?|marks?|hints?)\s+(?:\w+\s+){0,2}?(?:of|for|that)\s+(?:\w+\s+){0,4}?"
    r"(?:forgery|manipulation|tampering|editing|synthesis|fabrication|alteration|blending|swapping|fak(?:e|ery|ing)|forged|"
    r"manipulated)"
)
_WORD = re.compile(rf"\b(?:(?P<signs>{_SIGNS})|(?P<fake>{_FAKE})|(?P<real>{_REAL}))\b(?!-)")
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|without|lacks?|lacking|cannot|hardly|un|free of|absence of|\w+n't|isnt|aint)\b"
)
_REACH = 5
"""Words before a verdict's word in which a negation turns it."""

_OPEN = re.compile(
    r"\b(?:whether|either|real\W+(?:or|and|vs\.?)\W+fake|fake\W+(?:or|and|vs\.?)\W+real|might|could|may|"
    r"(?:un)?sure|un(?:clear|certain|known)|impossible to|hard to (?:say|tell)|(?:cannot|can't|unable to|not) "
    r"(?:be )?(?:say|tell|determined?|decided?|confirm(?:ed)?)|maybe|perhaps)\b|[|/<>]"
)
"""What leaves a sentence without a verdict."""
_CONDITION = re.compile(r"\b(?:if|assuming|suppose|were it|imagine)\b")
_LIKENESS = re.compile(
    r"\b(?:like|resembl\w+|unlike|than|compared (?:to|with)|typical of|of|in|mimic\w*)\s+(?:an?\s+|the\s+|that of\s+)?$"
)
_KIND = re.compile(r"\s+(?:faces|people|persons|photos|photographs|images|pictures|skin|life|world|time|estate|ones)\b")
"""After "real": what is said of things of a kind, not of this picture."""
_ADMITTED = re.compile(r"^(?:al)?though\b[^,]*,|^(?:while|even if|despite)\b[^,]*,")
_TURN = re.compile(r"\b(?:but|however|yet|nevertheless|nonetheless)\b")
_MARK = r"[*_`#~\"“”„«»]++"
_MARKUP = re.compile(rf"(?<!\w){_MARK}|{_MARK}(?!\w)")
"""Around words; within one it leaves no word at all."""
_LONGEST = 2_000
"""Characters that are read: a verdict stands near the beginning or nowhere."""


def read_statement(text: str) -> Verdict:
    """The verdict that a free text states; ``UNPARSED`` where it states none or contradicts itself. Never raises."""
    plain = _MARKUP.sub("", text[:_LONGEST]).replace("’", "'").casefold()
    for sentence in re.split(r"(?<=[.!?;。])\s+|\n+", plain):
        said = _said(" ".join(sentence.split()))
        if said is not None:
            return said
    return Verdict.UNPARSED


def _said(sentence: str) -> Verdict | None:
    """The verdict of one sentence; ``UNPARSED`` of one that says both, None of one that says nothing of it."""
    if sentence.endswith("?") or _CONDITION.search(sentence):
        return None
    sentence = _ADMITTED.sub("", sentence)
    # "Looks real, but is fake": what comes after the turn counts where it says anything.
    for clause in reversed(_TURN.split(sentence)):
        found = {verdict for verdict in _verdicts(clause) if verdict is not None}
        if found:
            return found.pop() if len(found) == 1 and not _OPEN.search(clause) else Verdict.UNPARSED
    return None


def _verdicts(clause: str) -> list[Verdict | None]:
    return [_meant(clause, match) for match in _WORD.finditer(clause)]


def _meant(clause: str, match: re.Match[str]) -> Verdict | None:
    before, after = clause[: match.start()], clause[match.end() :]
    if match["real"] and _KIND.match(after):
        return None
    if not match["signs"] and _LIKENESS.search(before):
        return None
    # A name such as "forgery type" or "original video" says nothing of the picture.
    if re.match(r"\s+(?:type|types|reasoning|detection|analysis|method|video|source|file)\b", after):
        return None
    near = " ".join(re.split(r"[,:;]", before)[-1].split()[-_REACH:])
    negations = _NEGATION.findall(near.replace("neither", "") if "nor" in near.split() else near)
    turned = len(negations) % 2 == 1
    return Verdict.FAKE if (match["real"] is not None) == turned else Verdict.REAL


def published_ffaa(value: str) -> Verdict:
    """How FFAA's selector reads the value of ``Analysis result``: exactly "real", and all else is fake."""
    return Verdict.REAL if value == "real" else Verdict.FAKE


def published_m2f2_det(text: str) -> Verdict:
    """How M2F2-Det's evaluation reads an answer: "real" anywhere in it, then "fake"; what has neither is dropped."""
    lower = text.lower()
    if "real" in lower:
        return Verdict.REAL
    return Verdict.FAKE if "fake" in lower or "computer-generated" in lower else Verdict.UNPARSED


PUBLISHED_READERS: Mapping[str, Callable[[str], Verdict]] = MappingProxyType(
    {"ffaa": published_ffaa, "m2f2_det": published_m2f2_det}
)
"""Readers of published evaluations, for comparison. AntifakePrompt compares two answers' losses and reads none."""
