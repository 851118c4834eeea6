"""An analysis as text for people."""

from __future__ import annotations

from pathlib import Path

from ffaa.dialogue.answers import DESCRIPTION, FORGERY_TYPE, REASONING, RESULT
from ffaa.reporting.pictures import Finding
from ffaa.types import Analysis, Verdict


def format_analysis(analysis: Analysis) -> str:
    """The chosen answer and what is known about it, a fact a line, in the form that FFAA was published with.

    An answer that gives no verdict is shown as it was written, said to be so. The probability that an answer claims for
    itself is left out: the match score and P(fake) are the measured ones, the latter calibrated where the weights come
    with a calibration.
    """
    answer = analysis.answer
    if answer.verdict is Verdict.UNPARSED:
        lines = [answer.text.strip() or "(empty answer)", f"{RESULT}: none (the answer states neither real nor fake)"]
    else:
        lines = [
            f"{DESCRIPTION}: {answer.description}",
            f"{REASONING}: {answer.reasoning}",
            f"{RESULT}: {answer.verdict}, {FORGERY_TYPE}: {answer.forgery_type or 'not stated'}",
        ]
    if not answer.finished:
        lines.append("(cut at the limit of tokens)")
    judged = [
        None if analysis.match_score is None else f"Match score: {analysis.match_score:.4f}",
        None if analysis.difficulty is None else f"Difficulty: {analysis.difficulty}",
    ]
    if any(judged):
        lines.append("; ".join(part for part in judged if part))
    lines.append(f"P(fake): {analysis.score if analysis.probability is None else analysis.probability:.4f}")
    if analysis.uncertain:
        lines.append("Uncertain: pictures with such scores are told apart too poorly for a verdict to be relied on")
    return _printable("\n".join(lines))


def _printable(text: str) -> str:
    """A model may write anything, control sequences for the terminal included."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def format_finding(finding: Finding) -> str:
    """One face of one picture: its file, then the analysis or why there is none, with an empty line after it."""
    path = _printable(str(finding.path).replace("\n", "\r"))
    title = path + (f" (face {finding.face} of {finding.faces})" if finding.faces > 1 else "")
    if finding.analysis is None:
        return f"{title}\nfailed: {_printable(str(finding.error))}\n"
    here = Path.cwd()
    shown = [path.relative_to(here) if path.is_relative_to(here) else path for path in finding.heat_maps]
    maps = [f"Heat map: {path}" for path in shown]
    return "\n".join([title, format_analysis(finding.analysis), *maps, ""])
