"""One HTML page on which results can be read and looked at: ``python scripts/report.py results/free_ma/<run> [more]``.

A result folder, or a folder of several; beside these also a folder that holds ``robustness.json``. The page opens from
disk and needs no network. Heat maps are shown where ``<run>/heatmaps/`` has them. The page holds the benchmark's
pictures: whether it may be passed on is up to their licence.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffaa.config import parse, read_json
from ffaa.data.benchmark import ALIASES, load_benchmark
from ffaa.evaluation.attributes import SUBGROUPS
from ffaa.evaluation.predictions import read_lines
from ffaa.evaluation.result_folder import (
    EXPLANATION,
    MANIFEST,
    PREDICTIONS,
    SUMMARY,
    count_to_score,
    known_config,
)
from ffaa.evaluation.runner import data_fingerprint, select
from ffaa.metrics.detection import summarize
from ffaa.reporting.claims import can_be_drawn
from ffaa.reporting.gallery import Places
from ffaa.reporting.grids import counted
from ffaa.reporting.html import MAX_PAGE, Page, build_page
from ffaa.reporting.report_run import Run, told_apart
from ffaa.reporting.report_sections import Curves
from ffaa.reporting.thumbnails import below_page
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, make_folder, run_door, sha256_file
from ffaa.types import InputError

ROBUSTNESS = "robustness.json"
HEAT_MAPS = "heatmaps"


@dataclass(frozen=True)
class Options:
    results: tuple[str, ...] = ()
    """Result folders, or folders of such; beside these also a folder that holds robustness.json."""
    out: Path | None = None
    """The page; by default report.html in the result's folder, of several in results/."""
    assets_dir: Path | None = None
    """Folder below the page's for its pictures, for more than fit into 60 MB."""
    tables: Path | None = None
    """Folder for every table of the page as Markdown, LaTeX and CSV."""
    benchmark_root: Path = PROJECT_ROOT / "benchmark"
    """Folder of the benchmarks, whose pictures are shown."""


@dataclass
class Found:
    """Result folders and files of robustness curves, each once, and whether it was named itself."""

    runs: dict[Path, bool] = field(default_factory=dict)
    curves: dict[Path, bool] = field(default_factory=dict)


def find_folders(named: tuple[str, ...]) -> Found:
    """What the names hold, itself or at most two folders deep.

    Raises:
        InputError: none is named, or a name holds neither.
    """
    if not named:
        raise InputError("no result given: name a result folder, or a folder of several")
    result = Found()
    for name in named:
        folder = Path(name)
        if not folder.is_dir():
            raise InputError(f"no such result folder: {folder}")
        is_run = (folder / PREDICTIONS).is_file()
        found = [folder] if is_run else _runs_below(folder)
        drawn = sorted(path for deep in ("", "*/", "*/*/") for path in folder.glob(f"{deep}{ROBUSTNESS}"))
        if not found and not drawn:
            raise InputError(f"{folder} holds neither {PREDICTIONS} nor {ROBUSTNESS}, nor do the folders in it")
        for path in map(Path.resolve, found):
            result.runs[path] = is_run or result.runs.get(path, False)
        for path in map(Path.resolve, drawn):
            result.curves[path] = path.parent == folder.resolve() or result.curves.get(path, False)
    if not result.runs:
        raise InputError(f"no result among {', '.join(named)}: a page of {ROBUSTNESS} alone has no pictures")
    return result


def _runs_below(folder: Path) -> list[Path]:
    """Finished results in a folder, at most two folders deep; those under a corruption belong to a sweep."""
    found = sorted(path.parent for deep in ("*", "*/*") for path in folder.glob(f"{deep}/{SUMMARY}"))
    return [path for path in found if (path / PREDICTIONS).is_file() and not _degraded(path)]


def _degraded(folder: Path) -> bool:
    try:
        return bool(known_config(folder).get("degrade"))
    except InputError:  # said when it is read
        return False


def read_run(folder: Path) -> Run:
    """A result folder, its figures made anew where they are not those of its predictions.

    Raises:
        InputError: a file of it cannot be read, or it holds no predictions.
    """
    lines = read_lines(folder / PREDICTIONS)
    if not lines:
        raise InputError(f"{folder / PREDICTIONS} holds no predictions")
    config = known_config(folder)
    has_summary, wanted = (folder / SUMMARY).is_file(), count_to_score(folder)
    # A summary can be made of a run that was cut: the number of pictures says more.
    complete = has_summary if wanted is None else len(lines) >= wanted
    summary = read_json(folder / SUMMARY) if has_summary else {}
    n_done = sum(line["status"] == "ok" for line in lines)
    known = isinstance(summary.get("decisions"), dict) and "method" in summary["decisions"]
    if not known or summary.get("n") != n_done:
        summary = json.loads(json.dumps(summarize(lines)))
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    name = str(config.get("benchmark") or folder.parent.name)
    return Run(
        folder, name, lines, summary, config, manifest, complete,
        subgroups=read_figures(folder / SUBGROUPS, "scripts/score_subgroups.py"),
        explanation=read_figures(folder / EXPLANATION, "scripts/score_answers.py", can_be_drawn),
    )  # fmt: skip


def read_figures(file: Path, by: str, is_whole: Callable[[Any], bool] = lambda _: True) -> dict[str, Any]:
    """What the script ``by`` found of a result; empty where it was not run.

    What is damaged, of another form or of other predictions is said and left out.
    """
    if not file.is_file():
        return {}
    try:
        found = read_json(file)
    except InputError:
        found = {}
    if found.get("predictions") == sha256_file(file.parent / PREDICTIONS) and is_whole(found):
        return found
    print(f"left out: {file} is damaged or of other predictions; {by} makes it anew")
    return {}


def read_curves(path: Path) -> Curves:
    """Robustness curves.

    Raises:
        InputError: the file is none of them.
    """
    found = read_json(path)
    for name, curve in found.items():
        levels = curve.get("levels") if isinstance(curve, dict) else None
        if not isinstance(levels, list) or not all(isinstance(level, (int, float)) for level in levels):
            raise InputError(f"{path}: {name!r} has no levels")
        for key in ("acc", "auc"):
            values = curve.get(key)
            if values is not None and (not isinstance(values, list) or len(values) != len(levels)):
                raise InputError(f"{path}: {name!r} has {len(levels)} levels and not as many values of {key}")
    return found


def read_all(found: Found) -> tuple[list[Run], dict[str, Curves]]:
    """The runs, and title -> robustness curves. What cannot be read and was only searched out is said and left out.

    Raises:
        InputError: what was named cannot be read, or nothing that was searched out can.
    """
    runs: list[Run] = []
    curves: dict[str, Curves] = {}
    for path, named in {**found.runs, **found.curves}.items():
        try:
            if path in found.runs:
                runs.append(read_run(path))
            else:
                curves[f"{path.parent.parent.name}, {path.parent.name}"] = read_curves(path)
        except InputError as error:
            if named:
                raise
            print(f"left out: {' '.join(str(error).split())}")
    if not runs:
        raise InputError("no result that was found can be read")
    return told_apart(runs), curves


def find_places(runs: list[Run], root: Path) -> Places:
    """Each benchmark's folder, None where it is not built here or holds other pictures than one of several runs'."""
    folders: dict[str, Path | None] = {}
    changed = []
    for run in runs:
        if run.benchmark in folders:
            continue
        name = run.base or run.benchmark
        folder = next((root / one for one in (name, ALIASES.get(name, name)) if (root / one).is_dir()), None)
        if folder is not None and not _as_scored(folder, run):
            changed.append(run.benchmark)
            # Which run's pictures lie there is not known, and one's answers beside another's pictures mislead.
            folder = None if run.base else folder
        folders[run.benchmark] = folder
    return Places(folders, [run.folder / HEAT_MAPS for run in runs], changed)


def _as_scored(folder: Path, run: Run) -> bool:
    """Whether a benchmark's folder holds what a run was begun on; a run that does not say is alone or is not shown."""
    data, limit = run.config.get("data"), run.config.get("limit", -1)
    if not data:
        return not run.base
    try:
        return data_fingerprint(select(load_benchmark(str(folder)), limit if isinstance(limit, int) else -1)) == data
    except InputError:
        return False


def check_places(options: Options, out: Path) -> None:
    """Before anything is read or made: whether page, pictures and tables can lie where they are to.

    Raises:
        InputError: one of them cannot.
    """
    if out.is_dir() or not out.name:
        raise InputError(f"--out {out} is a folder: name a file for the page, such as {out / 'report.html'}")
    if options.assets_dir is not None:
        below_page(options.assets_dir, out)
    for name, folder in (("assets_dir", options.assets_dir), ("tables", options.tables)):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise InputError(f"--{name} {folder} is a file: name a folder")


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
    found = find_folders(options.results)
    folders, root = list(found.runs), options.benchmark_root
    out = options.out or (folders[0] if len(folders) == 1 else PROJECT_ROOT / "results") / "report.html"
    check_places(options, out)
    runs, curves = read_all(found)
    places = find_places(runs, root)
    page = build_page(runs, places, out, assets=options.assets_dir, robustness=curves)
    write(page, options, out)
    for name in places.changed:
        left = "" if places.benchmarks[name] else ", none is shown"
        print(f"{name}: {root} does not hold just the pictures that were scored{left}")
    for number, why in ((page.n_missing, f"not in {root}"), (page.n_unreadable, "damaged or no pictures")):
        if number:
            print(f"{number} of {counted(page.n_pictures, 'picture')} not shown: {why}")
    if any(run.research_only for run in runs):
        print("The page holds photographs of real people (CelebA): keep it on your own disk.")
    print(f"{counted(len(runs), 'run')}, {counted(page.n_pictures, 'picture')} -> {out}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
