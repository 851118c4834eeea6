"""A method over a benchmark, picture by picture, into a result folder that a killed run can be taken up from.

Pictures are analysed in fixed blocks by their index in the benchmark. A block that lacks a picture's line is analysed
whole again and only the missing lines are added, so that no picture's result depends on where a run was cut.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from PIL.Image import Image
from tqdm import tqdm

from ffaa.config import dump_yaml
from ffaa.data.benchmark import Benchmark, Item
from ffaa.data.images import open_image
from ffaa.evaluation.predictions import LineWriter, locked, mend, read_lines
from ffaa.metrics.detection import summarize
from ffaa.runtime import atomic_write_text, config_hash, sha256_file, to_plain, write_manifest
from ffaa.types import Analysis, InputError, Request

if TYPE_CHECKING:
    from ffaa.methods.base import Method

log = logging.getLogger(__name__)

PREDICTIONS, TIMINGS, SUMMARY, CONFIG, MANIFEST = (
    "predictions.jsonl", "timings.jsonl", "summary.json", "config.yaml", "manifest.json",
)  # fmt: skip

Prepare = Callable[[Image], Image]


@dataclass(frozen=True)
class RunSettings:
    """How a run is made.

    ``config`` is all that a result depends on, weights and data included: it is written beside the result, and a run
    under another one is refused. ``block_size`` pictures are analysed together.
    """

    config: Mapping[str, Any]
    block_size: int = 8
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise InputError(f"block_size must be at least 1, got {self.block_size}")


def run(
    method: Method, benchmark: Benchmark, out_dir: Path, settings: RunSettings, prepare: Prepare | None = None
) -> dict[str, Any]:
    """Analyse every picture that has no line yet and write the summary of all.

    A picture that cannot be used (it does not open, ``prepare`` raises an ``InputError``, its score is no number) gets
    a line with ``status: failed`` and the reason, and is not tried again.

    Args:
        method: what analyses.
        benchmark: its items are what is scored, in this order.
        out_dir: the result folder, made where it is missing.
        settings: see :class:`RunSettings`.
        prepare: from the upright picture to what the method is given, such as the face crop.

    Returns:
        The summary, as :func:`ffaa.metrics.detection.summarize` makes it from the predictions file.

    Raises:
        InputError: the folder holds a result under another config, or files that are no predictions; another process
            is writing to it; the disk is full.
    """
    _make_folder(out_dir)
    with locked(out_dir):
        if settings.fresh:
            for name in (PREDICTIONS, TIMINGS, SUMMARY, CONFIG, MANIFEST):
                (out_dir / name).unlink(missing_ok=True)
        done = _take_up(out_dir, settings, benchmark)
        with LineWriter(out_dir / PREDICTIONS) as predictions, LineWriter(out_dir / TIMINGS) as timings:
            _analyse_missing(method, benchmark, settings.block_size, done, prepare, predictions, timings)
        return rescore(out_dir)


def rescore(out_dir: Path) -> dict[str, Any]:
    """Make the summary from the predictions alone and write it.

    Raises:
        InputError: there are no predictions, or they cannot be read.
    """
    lines = read_lines(out_dir / PREDICTIONS)
    if not lines:
        raise InputError(f"{out_dir / PREDICTIONS} holds no predictions")
    summary = summarize(lines)
    atomic_write_text(out_dir / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return summary


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


def select(benchmark: Benchmark, limit: int) -> Benchmark:
    """The benchmark with at most ``limit`` pictures (all when negative), labels and types in their shares.

    The first pictures of a file are often of one label, so each label and type gives pictures evenly spaced over its
    own, in the file's order. The choice depends on nothing but the benchmark and the limit.

    Raises:
        InputError: the limit is 0.
    """
    if limit == 0:
        raise InputError("the limit must be at least 1, or -1 for all pictures")
    total = len(benchmark.items)
    if limit < 0 or limit >= total:
        return benchmark
    groups: dict[tuple[str, str], list[int]] = {}
    for index, item in enumerate(benchmark.items):
        groups.setdefault((item.label, item.forgery_type or ""), []).append(index)
    # Each picture's place within its own group, in 0..1: taking the smallest keeps all groups' shares.
    places = sorted(
        ((rank + 0.5) / len(members), key, rank) for key, members in groups.items() for rank in range(len(members))
    )
    taken = {key: sum(place[1] == key for place in places[:limit]) for key in groups}
    chosen = sorted(
        members[(2 * rank + 1) * len(members) // (2 * taken[key])]
        for key, members in groups.items()
        for rank in range(taken[key])
    )
    return Benchmark(benchmark.name, benchmark.root, tuple(benchmark.items[i] for i in chosen), benchmark.has_types)


def data_fingerprint(benchmark: Benchmark) -> str:
    """8 hex digits of the pictures' contents, ids, labels and types, in order."""
    return config_hash([(item.id, item.label, item.forgery_type, _content(item.path)) for item in benchmark.items])


def _content(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        # The run will record the picture as failed, and another run must not go on once it can be read.
        return f"unreadable: {error.strerror}"


def face_cropper(device: str) -> Prepare:
    """A ``prepare`` that cuts out the largest face with the margin used everywhere; raises NoFaceError without one."""
    from ffaa.data.faces import FaceDetector, crop_face

    detector = FaceDetector(device)
    return lambda image: crop_face(image, detector.largest(image).box)


def _make_folder(out_dir: Path) -> None:
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out_dir}: {error.strerror}") from error


def _take_up(out_dir: Path, settings: RunSettings, benchmark: Benchmark) -> set[str]:
    """Check the folder against the config, or start it; returns the ids that have a line."""
    config = to_plain({**settings.config, "block_size": settings.block_size})
    if not (out_dir / CONFIG).is_file():
        if (out_dir / PREDICTIONS).is_file():
            raise InputError(
                f"{out_dir} holds predictions but no {CONFIG}; give another --run, or --fresh to start anew"
            )
        write_manifest(out_dir / MANIFEST, **config, n_pictures=len(benchmark.items))
        dump_yaml(config, out_dir / CONFIG)
        return set()
    _refuse_another(read_config(out_dir), config, out_dir)
    for name in (PREDICTIONS, TIMINGS):
        if cut := mend(out_dir / name):
            log.info("%s: cut off a torn last line of %d bytes", out_dir / name, cut)
    if not (out_dir / PREDICTIONS).is_file():
        return set()
    done = {line["id"] for line in read_lines(out_dir / PREDICTIONS)}
    if strange := sorted(done - {item.id for item in benchmark.items}):
        raise InputError(
            f"{out_dir / PREDICTIONS}: the picture {strange[0]!r} is not in the benchmark {benchmark.name}"
        )
    if 0 < len(done) < len(benchmark.items):
        log.info("going on in %s: %d of %d pictures are done", out_dir, len(done), len(benchmark.items))
    return done


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


def _analyse_missing(
    method: Method,
    benchmark: Benchmark,
    block_size: int,
    done: set[str],
    prepare: Prepare | None,
    predictions: LineWriter,
    timings: LineWriter,
) -> None:
    items = benchmark.items
    # On a terminal a moving bar; in a log file a line now and then.
    pause = 0.1 if sys.stderr.isatty() else 15.0
    bar = tqdm(total=len(items), initial=len(done), desc=benchmark.name, unit=" pictures", mininterval=pause)
    with bar:
        for start in range(0, len(items), block_size):
            block = items[start : start + block_size]
            if all(item.id in done for item in block):
                continue
            began = time.perf_counter()
            lines = _analyse_block(method, block, prepare)
            seconds = time.perf_counter() - began
            for line in lines:
                if line["id"] not in done:
                    predictions.write(line)
                    bar.update()
            timings.write({"first": block[0].id, "n": len(block), "seconds": round(seconds, 4)})


def _analyse_block(method: Method, block: Sequence[Item], prepare: Prepare | None) -> list[dict[str, Any]]:
    """One line per item. Only the pictures that open go to the method, the same ones each time."""
    requests: list[Request] = []
    errors: dict[str, str] = {}
    for item in block:
        try:
            image = open_image(item.path)
            requests.append(Request(image=prepare(image) if prepare else image, id=item.id))
        except InputError as error:
            errors[item.id] = str(error)
    analyses = method.analyze(requests) if requests else []
    if len(analyses) != len(requests):
        raise RuntimeError(f"method {method.name} gave {len(analyses)} analyses for {len(requests)} requests")
    found = {request.id: analysis for request, analysis in zip(requests, analyses, strict=True)}
    return [_line(item, found.get(item.id), errors.get(item.id)) for item in block]


def _line(item: Item, analysis: Analysis | None, error: str | None) -> dict[str, Any]:
    line = {"id": item.id, "label": item.label, "forgery_type": item.forgery_type}
    if analysis is not None:
        error = error or analysis.nonsense
    if analysis is None or error is not None:
        return {**line, "status": "failed", "error": " ".join(str(error).split())}
    facts = to_plain(analysis.to_json())
    del facts["id"]
    return {**line, "status": "ok", "error": None, **facts}
