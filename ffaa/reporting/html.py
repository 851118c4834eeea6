"""One page on which a run, or several side by side, can be read and looked at: self-contained, no network, no torch."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ffaa.reporting import charts
from ffaa.reporting.gallery import Places, find_files, payload
from ffaa.reporting.grids import Grid
from ffaa.reporting.report_run import Run, labels_of, told_apart
from ffaa.reporting.report_sections import Content, Curves, sections
from ffaa.reporting.thumbnails import Thumbnails, make_thumbnails

TEMPLATES = Path(__file__).parent / "templates"

MAX_PAGE = 60 * 2**20
"""Bytes of a page."""


@dataclass(frozen=True)
class Page:
    """The page's text, the tables on it, and how many pictures it could not show: not there, or not to be opened.

    Pictures that `Places` withholds, because others lie in their place, are in neither count.
    """

    html: str
    grids: Sequence[Grid]
    n_pictures: int
    n_missing: int
    n_unreadable: int
    side: int
    """Longer side of a thumbnail, in pixels."""


def build_page(
    runs: Sequence[Run],
    places: Places,
    page: Path,
    *,
    assets: Path | None = None,
    robustness: Mapping[str, Curves] | None = None,
) -> Page:
    """The report on some runs.

    Args:
        runs: at least one; those on the same pictures of one benchmark are compared with one another.
        places: where their pictures and heat maps are.
        page: file that the page will be written to.
        assets: folder for thumbnails, below the page's; None: they are in the page.
        robustness: title -> curves.

    Raises:
        InputError: the thumbnails do not fit in a page, or their folder cannot be used.
    """
    runs = told_apart(runs)
    content = Content(runs, labels_of(runs))
    files = find_files(runs, places)
    sources = [source for found in files for shown in found.values() for source in shown.sources()]
    thumbnails = make_thumbnails(sources, assets, page)
    html = _render(
        sections(content, robustness or {}) | {"changed": sorted(places.changed)},
        payload(runs, content.labels, files, thumbnails),
        thumbnails,
        beside=assets is not None,
    )
    pictures = {
        (run.benchmark, name): shown for run, found in zip(runs, files, strict=True) for name, shown in found.items()
    }
    withheld = {name for name in places.changed if places.benchmarks.get(name) is None}
    missing = sum(shown.picture is None for (name, _), shown in pictures.items() if name not in withheld)
    unreadable = sum(shown.picture in thumbnails.failed for shown in pictures.values())
    return Page(html, content.grids, len(pictures), missing, unreadable, thumbnails.side)


def _render(filled: Mapping[str, Any], data: Mapping[str, Any], thumbnails: Thumbnails, *, beside: bool) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    # Only this script and these styles run, whatever a model has written.
    pictures = "data: 'self' file:" if beside else "data:"
    policy = (
        f"default-src 'none'; img-src {pictures}; script-src '{_hash(script)}'; "
        f"style-src '{_hash(css)}'; base-uri 'none'; form-action 'none'"
    )
    html = environment.get_template("report.html.j2").render(
        **filled,
        policy=policy,
        css=Markup(css),
        script=Markup(script),
        data=Markup(_json(data)),
        places=[] if beside else list(thumbnails.places.items()),
        strip=charts.strip,
        uri=_data_uri,
    )
    return html.encode("utf-8", "replace").decode("utf-8")


def _json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


_MEDIA = {".md": "text/markdown", ".tex": "application/x-tex", ".csv": "text/csv"}


def _data_uri(name: str, text: str) -> str:
    data = base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")
    return f"data:{_MEDIA[Path(name).suffix]};charset=utf-8;base64,{data}"
