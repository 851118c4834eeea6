"""A result folder: what is in it, when it may be gone on with, and how the files of several ranks become one.

``predictions.jsonl`` grows while one process works. Of several, each rank has a ``predictions-<rank>.jsonl`` of its
own; they are put together, in the benchmark's order, when the last picture has a line, or when the next run begins.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ffaa.config import dump_yaml
from ffaa.data.benchmark import Benchmark
from ffaa.evaluation.predictions import mend, read_lines
from ffaa.metrics.curves import best_threshold
from ffaa.metrics.detection import summarize
from ffaa.runtime import Rank, atomic_write_text, locked, make_folder, to_plain, write_manifest
from ffaa.types import InputError

log = logging.getLogger(__name__)

PREDICTIONS, TIMINGS, SUMMARY, CONFIG, MANIFEST = (
    "predictions.jsonl", "timings.jsonl", "summary.json", "config.yaml", "manifest.json",
)  # fmt: skip
EXPLANATION = "explanation.json"
"""How true the answers are, as scripts/score_answers.py found them."""
_CLOSED = ".closed"
"""In the first folder of a launch: one of its ranks has summed up for all."""


@dataclass(frozen=True)
class RunSettings:
    """How a run is made.

    ``config`` is all that a result depends on, weights and data included: it is written beside the result, and a run
    under another one is refused. ``block_size`` pictures are analysed together; None takes what the result was begun
    with, or ``fitting_block`` for a new one.
    """

    config: Mapping[str, Any]
    block_size: int | None = 8
    fresh: bool = False
    fitting_block: int = 8

    def __post_init__(self) -> None:
        if self.block_size is not None and self.block_size < 1:
            raise InputError(f"block_size must be at least 1, got {self.block_size}")

    @property
    def new_block_size(self) -> int:
        """Pictures analysed together where nothing was begun yet."""
        return self.block_size or self.fitting_block


@dataclass(frozen=True)
class Job:
    """A benchmark to score, into which folder, and how."""

    benchmark: Benchmark
    folder: Path
    settings: RunSettings


def own_file(folder: Path, name: str, rank: Rank) -> Path:
    """The file of that name which this rank writes: the result's own when it is alone."""
    return folder / name if rank.count == 1 else folder / f"{Path(name).stem}-{rank.index}{Path(name).suffix}"


def hold(jobs: Sequence[Job], rank: Rank, held: contextlib.ExitStack) -> None:
    """Make the folders where they are missing and keep other runs out of them until ``held`` is closed.

    Raises:
        InputError: a folder cannot be made, or another process is writing to it.
    """
    for job in jobs:
        make_folder(job.folder)
        held.enter_context(locked(job.folder, f".lock-{rank.index}"))


@dataclass(frozen=True)
class Begun:
    """A folder that a run goes on in: the ids that have a line, and how many pictures are analysed together."""

    done: set[str]
    block_size: int


def start(job: Job, rank: Rank) -> Begun:
    """Check a folder against the config, or begin it. For rank 0, once all hold it.

    Raises:
        InputError: the folder holds a result under another config, or files that are no predictions; a rank of an
            earlier launch is still writing to it.
    """
    folder = job.folder
    for lock in folder.glob(".lock-*"):
        if int(lock.name.removeprefix(".lock-")) >= rank.count:
            with locked(folder, lock.name):
                lock.unlink()
    if job.settings.fresh:
        for path in (*_parts(folder, PREDICTIONS), *_parts(folder, TIMINGS), folder / CONFIG, folder / MANIFEST):
            path.unlink(missing_ok=True)
    before = known_config(folder)
    size = job.settings.block_size or _size_of(before) or job.settings.new_block_size
    config = to_plain({**job.settings.config, "block_size": size})
    if before:
        _refuse_another(before, config, folder)
        done = _take_up(job)
    elif _parts(folder, PREDICTIONS):
        raise InputError(f"{folder} holds predictions but no {CONFIG}; give another --run, or --fresh to start anew")
    else:
        write_manifest(folder / MANIFEST, **config, n_pictures=len(job.benchmark.items))
        dump_yaml(config, folder / CONFIG)
        done = set()
    # Their absence says that the run is not over.
    for name in (SUMMARY, _CLOSED):
        (folder / name).unlink(missing_ok=True)
    return Begun(done, size)


def close(jobs: Sequence[Job]) -> list[dict[str, Any]] | None:
    """Put together what the ranks wrote and make the summaries, if every picture of every job has its line.

    Returns:
        The summaries in the order of the jobs, on the rank that is the last to end; None on the others.
    """
    # One lock for all jobs, so that one rank alone finds all complete and not yet closed.
    closed = jobs[0].folder / _CLOSED
    with locked(jobs[0].folder, ".closing", wait=True):
        # Not the summaries: `rescore` may have made them of a run in progress, which lack the pictures since then.
        if closed.exists():
            return None
        for job in jobs:
            if len(_lines(job.folder)) < len(job.benchmark.items):
                return None
        for job in jobs:
            _merge(job)
        summaries = [rescore(job.folder) for job in jobs]
        closed.touch()
        return summaries


@dataclass(frozen=True)
class Scoring:
    """What a summary takes from elsewhere than the predictions.

    ``groups``: picture -> person or video, in place of the lines' own; ``threshold``: of the method's score.
    """

    groups: Mapping[str, str] | None = None
    threshold: float | None = None


def rescore(out_dir: Path, scoring: Scoring | None = None) -> dict[str, Any]:
    """Make the summary from the predictions alone and write it.

    Raises:
        InputError: there are no predictions, or they cannot be read.
    """
    scoring = scoring or Scoring()
    lines = _some_lines(out_dir)
    if scoring.groups is not None:
        lines = [{**line, "group": scoring.groups.get(line["id"])} for line in lines]
    text = json.dumps(summarize(lines, threshold=scoring.threshold), indent=2, allow_nan=False) + "\n"
    atomic_write_text(out_dir / SUMMARY, text)
    summary: dict[str, Any] = json.loads(text)
    return summary


def validated_threshold(out_dir: Path) -> float:
    """The threshold of the method's score that a validation split's result fixes (`curves.best_threshold`).

    Raises:
        InputError: there are no predictions, they cannot be read, or they are of one class.
    """
    lines = [line for line in _some_lines(out_dir) if line["status"] == "ok"]
    found = best_threshold([line["label"] == "fake" for line in lines], [line["score"] for line in lines])
    if found is None:
        raise InputError(f"{out_dir / PREDICTIONS} holds one class only, which fixes no threshold")
    return float(found["threshold"])


def _some_lines(out_dir: Path) -> list[dict[str, Any]]:
    lines = read_lines(out_dir / PREDICTIONS, texts=False)
    if not lines:
        raise InputError(f"{out_dir / PREDICTIONS} holds no predictions")
    return lines


def read_config(out_dir: Path) -> dict[str, Any]:
    """The config that a result folder was made with.

    Raises:
        InputError: the folder has none, or it is no mapping.
    """
    try:
        # Not the reader of options: that takes a hash such as 12e34567 for a number, which PyYAML writes unquoted.
        config = yaml.safe_load((out_dir / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"cannot read {out_dir / CONFIG}: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{out_dir / CONFIG} holds no config")
    return config


def known_config(out_dir: Path) -> dict[str, Any]:
    """`read_config`, empty where the folder has none."""
    return read_config(out_dir) if (out_dir / CONFIG).is_file() else {}


def count_to_score(out_dir: Path) -> int | None:
    """How many pictures the run was begun on; None where its manifest is not there or does not say.

    A summary may stand beside fewer: one can be made of a run that was cut (`rescore`).
    """
    try:
        manifest = json.loads((out_dir / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    number = manifest.get("n_pictures") if isinstance(manifest, dict) else None
    return number if isinstance(number, int) else None


def _size_of(config: Mapping[str, Any]) -> int | None:
    size = config.get("block_size")
    return size if isinstance(size, int) and size > 0 else None


def _take_up(job: Job) -> set[str]:
    """Mend what a killed run left, put its ranks' files together, and return the ids that have a line."""
    for path in (*_parts(job.folder, PREDICTIONS), *_parts(job.folder, TIMINGS)):
        if cut := mend(path):
            log.info("%s: cut off a torn last line of %d bytes", path, cut)
    _merge(job)
    done = set(_lines(job.folder))
    if strange := sorted(done - {item.id for item in job.benchmark.items}):
        raise InputError(
            f"{job.folder / PREDICTIONS}: the picture {strange[0]!r} is not in the benchmark {job.benchmark.name}"
        )
    if 0 < len(done) < len(job.benchmark.items):
        log.info("going on in %s: %d of %d pictures are done", job.folder, len(done), len(job.benchmark.items))
    return done


def _parts(folder: Path, name: str) -> list[Path]:
    """The file of that name and those of single ranks, as far as they are there."""
    stem, suffix = Path(name).stem, Path(name).suffix
    return [path for path in (folder / name, *sorted(folder.glob(f"{stem}-[0-9]*{suffix}"))) if path.is_file()]


def _lines(folder: Path) -> dict[str, dict[str, Any]]:
    """The lines of all parts by picture. One may stand in two, when a merge was cut after its result was written."""
    return {line["id"]: line for path in _parts(folder, PREDICTIONS) for line in read_lines(path)}


def _merge(job: Job) -> None:
    """One file for the ranks' files, in the benchmark's order. Cut in the middle, it can be done again."""
    folder = job.folder
    predictions, timings = _parts(folder, PREDICTIONS), _parts(folder, TIMINGS)
    if not any(path != folder / PREDICTIONS for path in predictions):
        return
    lines = _lines(folder)
    order = [item.id for item in job.benchmark.items if item.id in lines]
    strange = lines.keys() - set(order)
    rows = [json.dumps(lines[id_], allow_nan=False) for id_ in (*order, *sorted(strange))]
    atomic_write_text(folder / PREDICTIONS, "".join(f"{row}\n" for row in rows))
    atomic_write_text(folder / TIMINGS, "".join(path.read_text() for path in timings))
    for path in (*predictions, *timings):
        if path not in (folder / PREDICTIONS, folder / TIMINGS):
            path.unlink()


def _refuse_another(old: Mapping[str, Any], new: Mapping[str, Any], out_dir: Path) -> None:
    before, now = _flat(old), _flat(new)
    # Hashes last: of --eval_num and the data that it selects, the user gave the first.
    hashes = ("data", "model_config", "fingerprint")
    for key in sorted(before.keys() | now.keys(), key=lambda name: (name.startswith(hashes), name)):
        was, is_now = before.get(key, "nothing"), now.get(key, "nothing")
        if was != is_now:
            raise InputError(
                f"{out_dir} was made with {key} = {was}, not {is_now}; give another --run, or --fresh to start anew"
            )


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat
