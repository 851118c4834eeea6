from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from ffaa.metrics.detection import summarize
from ffaa.reporting.tables import benchmarks_table, decisions_table, family, group_lines, spread_line


def summary_of(n_right: int, n: int = 10, *, failed: int = 0, typed: bool = False) -> dict[str, Any]:
    """A run on half real, half fake pictures of which the first ``n_right`` are decided right."""
    lines: list[dict[str, Any]] = []
    for index in range(n):
        label, other = ("fake", "real") if index % 2 else ("real", "fake")
        said = label if index < n_right else other
        answers = [
            {"verdict": said, "hypothesis": "none", "score": None, "finished": True, "forgery_type": "Swap"},
            {"verdict": other, "hypothesis": other, "score": None, "finished": True, "forgery_type": "None"},
        ]
        lines.append(
            {
                "id": str(index), "label": label, "forgery_type": "Swap" if typed and index % 2 else None,
                "status": "ok", "error": None, "verdict": said, "score": 0.9 if said == "fake" else 0.1,
                "chosen": 0, "answers": answers, "difficulty": "hard" if said != other else "easy",
            }
        )  # fmt: skip
    lines += [
        {"id": f"f{i}", "label": "real", "forgery_type": None, "status": "failed", "error": "x"} for i in range(failed)
    ]
    return summarize(lines)


def text_of(table: Table, width: int = 140) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_decisions_of_one_run() -> None:
    text = text_of(decisions_table("free_ma", summary_of(8, failed=2), "ffaa"))
    assert "free_ma: 10 pictures (5 real, 5 fake, 2 failed)" in text
    rows = text.splitlines()[-5:]
    assert [re.split(r"\s{2,}", row.strip())[0] for row in rows] == [
        "free answer", "majority vote", "FFAA (MIDS)", "score > 0.5", "majority class",
    ]  # fmt: skip
    assert "80.0 [49.0-94.3]" in rows[2] and "5 / 5" in rows[2]
    assert "50.0 [23.7-76.3]" in rows[4]


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_cuts_nothing(width: int) -> None:
    text = text_of(decisions_table("free_ma", summary_of(10), "ffaa"), width)
    assert "…" not in text and text.count("read") == 1 and "[72.2-100]" in text
    assert max(map(len, text.splitlines())) <= width


def test_no_figure_is_a_dash() -> None:
    row = text_of(decisions_table("x", summarize([]), "llava"))
    assert "LLaVA" in row and " – " in row


def test_groups_are_told_in_lines() -> None:
    lines = group_lines(summary_of(8, typed=True))
    assert lines[0].startswith("by difficulty: easy 0.0 [0.0-65.8] (0/2); hard 100 ")
    assert lines[1].startswith("by chosen answer: free 80.0")
    assert lines[2].startswith("by forgery type: Swap 80.0")
    assert lines[3].startswith("2-class accuracy (no forgery and types): 80.0")
    assert lines[4] == "answers: 20, of them unparsed 0 (0.0 %), cut at the token limit 0"
    assert group_lines(summarize([])) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dfdc", "OW-FFA-Bench"), ("ma", "OW-FFA-Bench"), ("multiattack", "OW-FFA-Bench"), ("free_ma", "free"),
        ("mini_ma", "mini"), ("own", "own"),
    ],
)  # fmt: skip
def test_families(name: str, expected: str) -> None:
    assert family(name) == expected


SIX = {"dfd": 9, "dfdc": 6, "dpf": 10, "pgc": 8, "wfir": 10, "mffdi": 5}


def test_the_mean_of_the_published_family_leaves_the_in_domain_set_apart() -> None:
    six = {name: summary_of(n) for name, n in SIX.items()}
    text = text_of(benchmarks_table({**six, "multiattack": summary_of(10)}, "ffaa"))
    mean = next(line for line in text.splitlines() if "ALL (mean of six)" in line)
    assert re.split(r"\s{2,}", mean.strip())[1] == "80.0" and "30 / 30" in mean
    assert "\nma  " in text
    assert spread_line(six) == "sACC (population standard deviation): 19.1 over the six sets"
    assert spread_line({**six, "ma": summary_of(10)}) == (
        "sACC (population standard deviation): 19.1 over the six sets, 19.1 over the seven with ma"
    )


@pytest.mark.parametrize("names", [["dfd", "dfdc", "ma"], ["free_ma", "free_people"]])
def test_no_mean_of_an_incomplete_or_other_family(names: list[str]) -> None:
    summaries = {name: summary_of(8) for name in names}
    assert "ALL" not in text_of(benchmarks_table(summaries, "ffaa"))
    assert spread_line(summaries) is None


def test_families_are_never_mixed() -> None:
    with pytest.raises(ValueError, match="different families"):
        benchmarks_table({"free_ma": summary_of(8), "mini_ma": summary_of(8)}, "ffaa")
