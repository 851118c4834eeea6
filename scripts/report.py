"""One HTML page on which results can be read and looked at: ``python scripts/report.py results/free_ma/<run> [more]``.

A result folder, a folder of several, or a folder that holds ``robustness.json``. The page opens from disk and needs no
network. Heat maps are shown where ``<run>/heatmaps/`` has them. The page holds the benchmark's pictures: whether it may
be passed on is up to their licence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffaa.config import parse
from ffaa.data.benchmark import ALIASES
from ffaa.evaluation.predictions import read_lines
from ffaa.evaluation.result_folder import CONFIG, MANIFEST, PREDICTIONS, SUMMARY, read_config
from ffaa.metrics.detection import summarize
from ffaa.reporting.gallery import Places
from ffaa.reporting.html import MAX_PAGE, Page, build_page
from ffaa.reporting.report_run import Run
from ffaa.reporting.report_sections import Curves
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, make_folder, run_door
from ffaa.types import InputError

ROBUSTNESS = "robustness.json"
HEAT_MAPS = "heatmaps"


@dataclass(frozen=True)
class Options:
    results: tuple[str, ...] = ()
    """Result folders, or folders of such; also a folder that holds robustness.json."""
    out: Path | None = None
    """The page; by default report.html in the result's folder, of several in results/."""
    assets_dir: Path | None = None
    """Folder below the page's for its pictures, for more than fit into 60 MB."""
    tables: Path | None = None
    """Folder for every table of the page as Markdown, LaTeX and CSV."""
    benchmark_root: Path = PROJECT_ROOT / "benchmark"
    """Folder of the benchmarks, whose pictures are shown."""


def find_folders(named: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """Result folders and files of robustness curves, each once.

    Raises:
        InputError: none is named, or a name holds neither.
    """
    if not named:
        raise InputError("no result given: name a result folder, or a folder of several")
    runs: dict[Path, None] = {}
    curves: dict[Path, None] = {}
    for name in named:
        folder = Path(name)
        if not folder.is_dir():
            raise InputError(f"no such result folder: {folder}")
        found = [folder] if (folder / PREDICTIONS).is_file() else _runs_below(folder)
        drawn = sorted(path for deep in ("", "*/", "*/*/") for path in folder.glob(f"{deep}{ROBUSTNESS}"))
        if not found and not drawn:
            raise InputError(f"{folder} holds neither {PREDICTIONS} nor {ROBUSTNESS}, nor do the folders in it")
        runs.update((path.resolve(), None) for path in found)
        curves.update((path.resolve(), None) for path in drawn)
    if not runs:
        raise InputError(f"no result among {', '.join(named)}: a page of {ROBUSTNESS} alone has no pictures")
    return list(runs), list(curves)


def _runs_below(folder: Path) -> list[Path]:
    """Finished results in a folder, at most two folders deep; those under a corruption belong to a sweep."""
    found = sorted(path.parent for deep in ("*", "*/*") for path in folder.glob(f"{deep}/{SUMMARY}"))
    return [path for path in found if (path / PREDICTIONS).is_file() and not _config(path).get("degrade")]


def _config(folder: Path) -> dict[str, Any]:
    return read_config(folder) if (folder / CONFIG).is_file() else {}


def read_run(folder: Path) -> Run:
    """A result folder, its figures made anew where they are not those of its predictions.

    Raises:
        InputError: a file of it cannot be read, or it holds no predictions.
    """
    lines = read_lines(folder / PREDICTIONS)
    if not lines:
        raise InputError(f"{folder / PREDICTIONS} holds no predictions")
    config = _config(folder)
    complete = (folder / SUMMARY).is_file()
    summary = _read_json(folder / SUMMARY) if complete else {}
    n_done = sum(line["status"] == "ok" for line in lines)
    known = isinstance(summary.get("decisions"), dict) and "method" in summary["decisions"]
    if not known or summary.get("n") != n_done:
        summary = json.loads(json.dumps(summarize(lines)))
    manifest = _read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    return Run(folder, str(config.get("benchmark") or folder.parent.name), lines, summary, config, manifest, complete)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object")
    return found


def read_curves(path: Path) -> Curves:
    """Robustness curves.

    Raises:
        InputError: the file is none of them.
    """
    found = _read_json(path)
    for name, curve in found.items():
        levels = curve.get("levels") if isinstance(curve, dict) else None
        if not isinstance(levels, list) or not all(isinstance(level, (int, float)) for level in levels):
            raise InputError(f"{path}: {name!r} has no levels")
        for key in ("acc", "auc"):
            values = curve.get(key)
            if values is not None and (not isinstance(values, list) or len(values) != len(levels)):
                raise InputError(f"{path}: {name!r} has {len(levels)} levels and not as many values of {key}")
    return found


def benchmark_folders(runs: list[Run], root: Path) -> Mapping[str, Path | None]:
    """Each benchmark's folder, None where it is not built here."""

    def candidates(name: str) -> Iterator[Path]:
        yield from (root / one for one in (name, ALIASES.get(name, name)))

    return {
        run.benchmark: next((folder for folder in candidates(run.benchmark) if folder.is_dir()), None) for run in runs
    }


def write(page: Page, options: Options, out: Path) -> None:
    """The page and its tables.

    Raises:
        InputError: the page would be larger than 60 MB.
    """
    size = len(page.html.encode("utf-8"))
    if size > MAX_PAGE and options.assets_dir is None:
        raise InputError(f"the page would have {size / 2**20:.0f} MB; --assets_dir DIR writes its pictures beside it")
    make_folder(out.parent)
    atomic_write_text(out, page.html)
    if options.tables is not None:
        make_folder(options.tables)
        for grid in page.grids:
            for name, text in grid.files().items():
                atomic_write_text(options.tables / name, text)


def main() -> int:
    options = parse(Options, prog="report.py", description=__doc__ or "", positional="results")
    folders, drawn = find_folders(options.results)
    runs = [read_run(folder) for folder in folders]
    out = options.out or (folders[0] if len(folders) == 1 else PROJECT_ROOT / "results") / "report.html"
    places = Places(benchmark_folders(runs, options.benchmark_root), [folder / HEAT_MAPS for folder in folders])
    curves = {f"{path.parent.parent.name}, {path.parent.name}": read_curves(path) for path in drawn}
    page = build_page(runs, places, out, assets=options.assets_dir, robustness=curves)
    write(page, options, out)
    if page.n_missing:
        print(f"{page.n_missing} of {page.n_pictures} pictures are not in {options.benchmark_root} and are not shown")
    if any(run.research_only for run in runs):
        print("The page holds photographs of real people (CelebA): keep it on your own disk.")
    print(f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}, {page.n_pictures} pictures -> {out}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
