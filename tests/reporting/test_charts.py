"""Charts are well-formed drawings whose points lie where their numbers say."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from ffaa.metrics.calibration import reliability_bins
from ffaa.reporting.charts import Frame, Series, level_chart, radar_chart, reliability_chart, roc_chart, strip, swatch


def drawn(text: Markup, css: str) -> list[ElementTree.Element]:
    """Elements of a class."""
    return [one for one in ElementTree.fromstring(text).iter() if css in (one.get("class") or "").split()]


def test_a_roc_curve_ends_in_the_corners() -> None:
    chart = roc_chart([Series("a", [(0, 0), (0, 0.5), (1, 1)])], 'ROC of <a> & "b"')
    points = drawn(chart, "s0")[0].get("points", "").split()
    frame = Frame()
    assert points[0] == "{:.1f},{:.1f}".format(*frame.at(0, 0)) and points[-1] == "{:.1f},{:.1f}".format(
        *frame.at(1, 1)
    )
    assert ElementTree.fromstring(chart).get("aria-label") == 'ROC of <a> & "b"'


def test_a_reliability_diagram_shows_full_bins_and_all_counts() -> None:
    chart = reliability_chart(reliability_bins([0, 1, 1], [0.1, 0.9, 0.95]), 1, "r")
    assert len(drawn(chart, "dot")) == 2 and len(drawn(chart, "whisker")) == 2 and len(drawn(chart, "count")) == 10
    assert [one.get("height") for one in drawn(chart, "count")].count("0.0") == 8
    assert reliability_chart(reliability_bins([], []), 0, "of nothing")


def test_a_radar_has_gaps_and_hollow_points() -> None:
    series = [
        Series("a", [1.0, None, 0.5, 0.5]),
        Series("b", [0.1, 0.2, 0.3, 0.4], 1, [True, False, False, True], True),
    ]
    chart = radar_chart(["dpf", "dfd", "<x>", "pgc"], series, "radar")
    assert len(drawn(chart, "s0")) == 2 + 3 and len(drawn(chart, "hollow")) == 2 and len(drawn(chart, "ring")) == 4
    top = drawn(chart, "dot")[0]
    assert (float(top.get("cx", 0)), float(top.get("cy", 0))) == pytest.approx((250, 100))


def test_levels_without_a_value_are_left_out() -> None:
    chart = level_chart([0, 1, 5], [Series("ACC", [0.9, None, 0.5])], "jpeg")
    assert len(drawn(chart, "dot")) == 2
    gap = level_chart([0, 1, 2, 3, 4], [Series("ACC", [0.9, 0.8, None, 0.7, 0.6])], "jpeg")
    assert [len(line.get("points", "").split()) for line in drawn(gap, "line")] == [2, 2]
    assert level_chart([3], [Series("ACC", [0.9])], "one level") and level_chart([], [], "no level")


def test_a_strip_is_a_share_of_its_width() -> None:
    found = strip((0.5, 0.25, 0.75))
    assert drawn(found, "mark")[0].get("cx") == "66.0" and drawn(found, "span")[0].get("d") == "M34.0,7H98.0"


def test_series_differ_in_colour_and_begin_anew() -> None:
    assert len({Series("", (), index).css for index in range(8)}) == 8 and swatch(8) == swatch(0)
