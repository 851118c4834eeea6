from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffaa.reporting.grids import Grid, estimate, percent, slug, with_interval

GRID = Grid("toy", "A toy", ["way", "ACC"], [["a_b & c | d", "50.0 [40.0, 60.0]"], ["<x>", "–"]])


def test_three_forms_of_one_table() -> None:
    assert GRID.markdown() == ("| way | ACC |\n|---|---:|\n| a\\_b & c \\| d | 50.0 [40.0, 60.0] |\n| \\<x\\> | – |\n")
    latex = GRID.latex()
    assert r"a\_b \& c | d & 50.0 [40.0, 60.0] \\" in latex and r"\textless{}x\textgreater{} & -- \\" in latex
    assert latex.count("\n") == 9 and r"\begin{tabular}{lr}" in latex
    assert GRID.csv() == 'way,ACC\na_b & c | d,"50.0 [40.0, 60.0]"\n<x>,–\n'
    assert set(GRID.files()) == {"toy.md", "toy.tex", "toy.csv"}


def test_words_stand_left_and_numbers_right() -> None:
    grid = Grid("toy", "A toy", ["a", "b", "c"], [["x", "y", "1"]], n_text=2)
    assert "|---|---|---:|" in grid.markdown() and r"{llr}" in grid.latex()


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), min_size=1))
def test_any_text_keeps_its_cell(rows: list[list[str]]) -> None:
    grid = Grid("toy", "A toy", ["a", "b"], rows)
    assert len(grid.markdown().splitlines()) == len(rows) + 2
    for line in grid.markdown().splitlines():
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3
    if not any("\0" in cell or "\r" in cell for row in rows for cell in row):
        assert list(csv.reader(io.StringIO(grid.csv(), newline="")))[1:] == rows


def test_rows_must_fit_their_columns() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Grid("toy", "A toy", ["a", "b"], [["x"]])
    with pytest.raises(ValueError, match="do not fit"):
        Grid("toy", "A toy", ["a"], [["x"]], [None, None])


def test_figures_as_text() -> None:
    assert (percent(None), percent(1.0), percent(0.1234)) == ("–", "100", "12.3")
    assert with_interval(0.5, (0.4, 1.0)) == "50.0 [40.0, 100]" and with_interval(0.5, None) == "50.0"
    assert estimate(0.5, None) is None and estimate(0.5, (0.4, 0.6)) == (0.5, 0.4, 0.6)
    assert slug("Splits of OW-FFA/Bench!") == "splits-of-ow-ffa-bench" and slug("…") == "table"
