"""Tables that a paper takes over: one grid of text, written as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Estimate = tuple[float, float, float]
"""A share with its 95 % interval: value, low, high."""

_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{letter: f"\\{letter}" for letter in "&%$#_"},
}


@dataclass(frozen=True)
class Grid:
    """A table of text. The first column names its rows; every row has as many cells as there are columns.

    ``estimates`` (one a row, or none) are drawn as a strip beside the rows on a page and written nowhere else.
    """

    name: str
    """Stem of its files: letters, digits and hyphens."""
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    estimates: Sequence[Estimate | None] = ()
    note: str = ""
    caption: str = ""
    """Shorter title for a page that has said the rest; empty: the title."""
    n_text: int = 1
    """Columns of words, at the left; the others are numbers."""
    strong: int | None = None
    """The row that the others are beside."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows) or len(self.estimates) not in (0, len(self.rows)):
            raise ValueError(f"table {self.name}: rows and columns do not fit")

    def markdown(self) -> str:
        """A pipe table, words to the left and numbers to the right."""
        lines = ["| " + " | ".join(map(_in_markdown, row)) + " |" for row in (self.columns, *self.rows)]
        lines.insert(1, "|---" * self.n_text + "|---:" * (len(self.columns) - self.n_text) + "|")
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """A ``tabular`` with the rules of the package booktabs."""
        rows = [" & ".join(map(_in_latex, row)) + r" \\" for row in (self.columns, *self.rows)]
        return "\n".join(
            [
                f"% {' '.join(self.title.split())}; needs \\usepackage{{booktabs}}",
                rf"\begin{{tabular}}{{{'l' * self.n_text}{'r' * (len(self.columns) - self.n_text)}}}",
                r"\toprule",
                rows[0],
                r"\midrule",
                *rows[1:],
                r"\bottomrule",
                r"\end{tabular}",
                "",
            ]
        )

    def csv(self) -> str:
        """Commas, quotes where they are needed, one header line."""
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([self.columns, *self.rows])
        return file.getvalue()

    def files(self) -> dict[str, str]:
        """File name -> content, in the three forms."""
        return {f"{self.name}.md": self.markdown(), f"{self.name}.tex": self.latex(), f"{self.name}.csv": self.csv()}


def slug(text: str) -> str:
    """Letters, digits and hyphens of a text, for a file's name or an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "table"


def counted(number: int, noun: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(value: float | None) -> str:
    """A share in %, one decimal; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}".replace("100.0", "100")


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """A share and its interval in %: ``71.7 [59.2, 81.5]``."""
    if value is None or interval is None:
        return percent(value)
    return f"{percent(value)} [{percent(interval[0])}, {percent(interval[1])}]"


def with_counts(figure: Mapping[str, Any]) -> str:
    """A ``share`` of `ffaa.metrics.detection` with interval and counts: ``71.7 [59.2, 81.5] (43/60)``."""
    if figure["accuracy"] is None:
        return "–"
    shown = with_interval(figure["accuracy"], figure["accuracy_interval"])
    return f"{shown} ({figure['n_correct']}/{figure['n']})"


def signed(difference: float, interval: Sequence[float] | None) -> str:
    """A difference in points, with its interval where there is one."""
    bounds = "" if interval is None else f" [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
    return f"{100 * difference:+.1f}{bounds}"


def estimate(value: float | None, interval: Sequence[float] | None) -> Estimate | None:
    """What a strip draws; None where the share or its interval is not defined."""
    return None if value is None or interval is None else (value, interval[0], interval[1])


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<>])", r"\\\1", " ".join(text.split()))


def _in_latex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in " ".join(text.split())).replace("–", "--")
