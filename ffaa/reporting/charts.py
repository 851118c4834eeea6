"""Charts as SVG whose colours are the page's: crisp at any size, small, in the light, in the dark and in print.

Every chart is an ``img`` for a screen reader, with a title that says what it shows; its numbers stand in a table beside
it. Series differ in colour (Okabe and Ito's, which colour-blind people tell apart), in dash and in marker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import chain, groupby
from typing import Any

from markupsafe import Markup

from ffaa.metrics.detection import wilson_interval
from ffaa.reporting.grids import Estimate

Point = tuple[float, float]

N_SERIES = 8
"""Series that differ by colour and dash; further ones begin anew."""


@dataclass(frozen=True)
class Frame:
    """A plot area in a drawing of ``width`` x ``height``; data run from 0 to 1 to the right and upwards."""

    width: float = 340
    height: float = 330
    left: float = 44
    top: float = 10
    right: float = 12
    bottom: float = 44

    def at(self, x: float, y: float) -> Point:
        """Where a data point lies."""
        across, up = self.width - self.left - self.right, self.height - self.top - self.bottom
        return self.left + x * across, self.top + (1 - y) * up

    def line(self, points: Sequence[Point], css: str) -> str:
        """A line through data points."""
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        return f'<polyline class="{css}" points="{drawn}"/>'

    def grid(self, ticks: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)) -> str:
        """Hairlines with their values in % at the left and below."""
        parts = []
        for tick in ticks:
            (x, low), (_, high), (left, y), (right, _) = (
                self.at(*point) for point in ((tick, 0), (tick, 1), (0, tick), (1, tick))
            )
            parts += [
                f'<path class="grid" d="M{x:.1f},{low:.1f}V{high:.1f}M{left:.1f},{y:.1f}H{right:.1f}"/>',
                f'<text class="tick" x="{x:.1f}" y="{low + 15:.1f}" text-anchor="middle">{100 * tick:g}</text>',
                f'<text class="tick" x="{left - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{100 * tick:g}</text>',
            ]
        return "".join(parts)

    def names(self, below: str, beside: str) -> str:
        """What the axes show."""
        x, y = self.at(0.5, 0)[0], self.at(0, 0.5)[1]
        return (
            f'<text class="axis" x="{x:.1f}" y="{self.height - 8:.1f}" text-anchor="middle">{escape(below)}</text>'
            f'<text class="axis" transform="translate(12 {y:.1f}) rotate(-90)" text-anchor="middle">'
            f"{escape(beside)}</text>"
        )


@dataclass(frozen=True)
class Series:
    """A name and the numbers behind it, ``index`` the colour's."""

    name: str
    points: Sequence[Any]
    index: int = 0
    hollow: Sequence[bool] = field(default_factory=tuple)
    """Points that are drawn hollow; none where empty."""
    faint: bool = False
    """Drawn thinner, beside what the chart is about."""

    @property
    def css(self) -> str:
        """The class that gives colour and dash."""
        return f"s{self.index % N_SERIES}" + (" faint" if self.faint else "")


def svg(width: float, height: float, title: str, body: str, css: str = "chart") -> Markup:
    """A drawing with a title for screen readers."""
    return Markup(
        f'<svg class="{css}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">{body}</svg>'
    )


def swatch(index: int) -> Markup:
    """The line of a legend's entry."""
    css = f"s{index % N_SERIES}"
    return Markup(
        f'<svg class="swatch" viewBox="0 0 30 10" aria-hidden="true"><path class="line {css}" d="M1,5H29"/>'
        f'<circle class="dot {css}" cx="15" cy="5" r="3"/></svg>'
    )


def roc_chart(series: Sequence[Series], title: str) -> Markup:
    """ROC curves; points are (false positive rate, true positive rate)."""
    frame = Frame()
    body = frame.grid() + frame.line([(0, 0), (1, 1)], "chance")
    body += "".join(frame.line(one.points, f"line {one.css}") for one in series)
    body += frame.names("real called fake, %", "fake called fake, %")
    return svg(frame.width, frame.height, title, body)


def reliability_chart(bins: Sequence[Mapping[str, Any]], index: int, title: str) -> Markup:
    """Share of forged pictures over what P(fake) says, with Wilson's 95 % intervals and how many pictures there are.

    Args:
        bins: of `ffaa.metrics.calibration.reliability_bins`.
        index: the series' colour.
        title: for screen readers.
    """
    frame, most = Frame(), max([one["n"] for one in bins] or [1]) or 1
    body = frame.grid() + frame.line([(0, 0), (1, 1)], "chance")
    for one in bins:
        (x0, y0), (x1, y1) = frame.at(one["low"], 0), frame.at(one["high"], 0.18 * one["n"] / most)
        body += f'<rect class="count" x="{x0 + 1:.1f}" y="{y1:.1f}" width="{x1 - x0 - 2:.1f}" height="{y0 - y1:.1f}"/>'
    full = [one for one in bins if one["n"]]
    css = f"s{index % N_SERIES}"
    body += frame.line([(one["stated"], one["fake"]) for one in full], f"line {css}")
    for one in full:
        low, high = wilson_interval(round(one["fake"] * one["n"]), one["n"]) or (0, 1)
        (x, bottom), (_, top), (_, y) = (frame.at(one["stated"], value) for value in (low, high, one["fake"]))
        body += f'<path class="whisker {css}" d="M{x:.1f},{bottom:.1f}V{top:.1f}"/>'
        body += f'<circle class="dot {css}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    body += frame.names("P(fake) as stated, %", "forged in truth, %")
    return svg(frame.width, frame.height, title, body)


def radar_chart(axes: Sequence[str], series: Sequence[Series], title: str) -> Markup:
    """Shares of 0 to 1 on an axis a split, clockwise from the top. Series without a value on an axis have a gap."""
    radius, centre = 150.0, 250.0

    def at(axis: int, value: float) -> Point:
        angle = 2 * math.pi * axis / len(axes) - math.pi / 2
        return centre + radius * value * math.cos(angle), centre + radius * value * math.sin(angle)

    def ring(value: float, css: str) -> str:
        drawn = " ".join("{:.1f},{:.1f}".format(*at(axis, value)) for axis in range(len(axes)))
        return f'<polygon class="{css}" points="{drawn}"/>'

    body = "".join(ring(value, "ring chance" if value == 0.5 else "ring") for value in (0.25, 0.5, 0.75, 1))
    for axis, name in enumerate(axes):
        (x, y), (label_x, label_y) = at(axis, 1), at(axis, 1.13)
        anchor = "middle" if abs(label_x - centre) < 20 else "start" if label_x > centre else "end"
        body += f'<path class="grid" d="M{centre:g},{centre:g}L{x:.1f},{y:.1f}"/>'
        body += (
            f'<text class="axis" x="{label_x:.1f}" y="{label_y + 4:.1f}" text-anchor="{anchor}">{escape(name)}</text>'
        )
    for value in (0.5, 1):
        x, y = at(0, value)
        body += f'<text class="tick" x="{x + 5:.1f}" y="{y - 3:.1f}">{100 * value:g}</text>'
    for one in series:
        body += _polygon(one, [None if value is None else at(axis, value) for axis, value in enumerate(one.points)])
    top, bottom = at(0, 1.13)[1] - 16, max(at(axis, 1.13)[1] for axis in range(len(axes))) + 16
    return svg(2 * centre, bottom - top, title, f'<g transform="translate(0 {-top:.1f})">{body}</g>', "chart radar")


def _polygon(series: Series, places: Sequence[Point | None]) -> str:
    """Sides between neighbours that both have a value, and the points."""
    parts = []
    for index, place in enumerate(places):
        following = places[(index + 1) % len(places)]
        if place is not None and following is not None:
            (x0, y0), (x1, y1) = place, following
            parts.append(f'<path class="line {series.css}" d="M{x0:.1f},{y0:.1f}L{x1:.1f},{y1:.1f}"/>')
    for index, place in enumerate(places):
        if place is not None:
            hollow = bool(series.hollow) and series.hollow[index]
            css = f"dot {'hollow ' if hollow else ''}{series.css}"
            parts.append(f'<circle class="{css}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="3.5"/>')
    return "".join(parts)


def level_chart(levels: Sequence[float], series: Sequence[Series], title: str) -> Markup:
    """Shares of 0 to 1 over the levels of a corruption; a value of None is a gap."""
    frame = Frame(width=220, height=170, left=34, bottom=36, right=10)
    low, high = (min(levels), max(levels)) if levels else (0, 1)
    across = [(level - low) / ((high - low) or 1) for level in levels]
    body = ""
    for tick in (0, 0.5, 1):
        (left, y), (right, _) = frame.at(0, tick), frame.at(1, tick)
        body += f'<path class="{"chance" if tick == 0.5 else "grid"}" d="M{left:.1f},{y:.1f}H{right:.1f}"/>'
        body += f'<text class="tick" x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{100 * tick:g}</text>'
    for level, x in zip(levels, across, strict=True):
        px, py = frame.at(x, 0)
        body += f'<text class="tick" x="{px:.1f}" y="{py + 14:.1f}" text-anchor="middle">{level:g}</text>'
    for one in series:
        # A part of the line for each row of neighbours that have a value.
        places = zip(across, one.points, strict=True)
        parts = [list(part) for known, part in groupby(places, lambda place: place[1] is not None) if known]
        body += "".join(frame.line(part, f"line {one.css}") for part in parts)
        for place in chain.from_iterable(parts):
            px, py = frame.at(*place)
            body += f'<circle class="dot {one.css}" cx="{px:.1f}" cy="{py:.1f}" r="2.6"/>'
    body += (
        f'<text class="axis" x="{frame.at(0.5, 0)[0]:.1f}" y="{frame.height - 4:.1f}" text-anchor="middle">level</text>'
    )
    return svg(frame.width, frame.height, title, body, "chart small")


def strip(value: Estimate) -> Markup:
    """A share with its interval on a line from 0 to 100 %, a tick at 50; 132 wide, of a row's height."""
    share, low, high = (2 + 128 * part for part in value)
    return Markup(
        '<svg class="strip" viewBox="0 0 132 14" aria-hidden="true">'
        '<path class="grid" d="M2,7H130M2,4V10M66,3V11M130,4V10"/>'
        f'<path class="span" d="M{low:.1f},7H{max(high, low + 1):.1f}"/>'
        f'<circle class="mark" cx="{share:.1f}" cy="7" r="3.2"/></svg>'
    )
