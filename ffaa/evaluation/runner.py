"""A method over benchmarks, picture by picture, into result folders that a killed run can be taken up from.

Pictures are analysed in fixed blocks by their index in the benchmark. A block that lacks a picture's line is analysed
whole again and only the missing lines are added, so that no picture's result depends on where a run was cut, nor on how
many processes share it: the blocks that are left are dealt out to the ranks in turn.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.Image import Image
from tqdm import tqdm

from ffaa.data.benchmark import Benchmark, Item
from ffaa.data.images import open_image
from ffaa.evaluation.cluster import ALONE, in_step
from ffaa.evaluation.predictions import LineWriter
from ffaa.evaluation.result_folder import PREDICTIONS, TIMINGS, Begun, Job, RunSettings, close, hold, own_file, start
from ffaa.methods.base import Generates, Method
from ffaa.runtime import Rank, config_hash, free_memory, sha256_file, to_plain
from ffaa.types import Analysis, InputError, Request

if TYPE_CHECKING:
    from ffaa.evaluation.cached_method import CachedMethod

Prepare = Callable[[Image], Image]
Block = Sequence[Item]


@dataclass(frozen=True)
class Pictures:
    """How pictures are read.

    ``prepare``: from the upright picture to what the method is given, such as the face crop; it raises an InputError
    for one that cannot be used. ``ahead``: read the next block while one is analysed.
    """

    prepare: Prepare | None = None
    ahead: bool = True


AS_THEY_ARE = Pictures()

_MOST_ON_CPU, _MOST_ON_GPU = 32, 64
"""Pictures in a block at most: a kill loses one, and 32 are hardly faster than 8 (scripts/bench/generation.py)."""
_SHARE_OF_MEMORY = 0.6
"""Of the free memory; the estimate of what a picture takes is rough."""


def run(
    method: Method, benchmark: Benchmark, out_dir: Path, settings: RunSettings, pictures: Pictures = AS_THEY_ARE
) -> dict[str, Any]:
    """One benchmark by this process alone; see :func:`run_jobs`."""
    summaries = run_jobs(method, [Job(benchmark, out_dir, settings)], pictures)
    assert summaries is not None
    return summaries[0]


def run_jobs(
    method: Method, jobs: Sequence[Job], pictures: Pictures = AS_THEY_ARE, rank: Rank = ALONE
) -> list[dict[str, Any]] | None:
    """Analyse this rank's share of the pictures that have no line yet; the rank that ends last sums up for all.

    A picture that cannot be used (it does not open, preparing it raises an ``InputError``, its score is no number) gets
    a line with ``status: failed`` and the reason, and is not tried again.

    Args:
        method: what analyses.
        jobs: the benchmarks, whose items are scored in their order, and the result folders, made where missing.
        pictures: how they are read.
        rank: this process among those that were launched together with the same jobs.

    Returns:
        The summaries, as :func:`ffaa.metrics.detection.summarize` makes them from the predictions files, in the order
        of the jobs; None on a rank that others outlive.

    Raises:
        InputError: a folder holds a result under another config, or files that are no predictions; another run is
            writing to it; the disk is full.
    """
    with contextlib.ExitStack() as held:
        folders = in_step(rank, lambda: hold(jobs, rank, held), lambda: [start(job, rank) for job in jobs])
        for job, begun in zip(jobs, folders, strict=True):
            if blocks := _share(job.benchmark, begun, rank):
                _analyse(method, job, blocks, begun.done, pictures, rank)
        return close(jobs)


def write_answers(
    method: CachedMethod, jobs: Sequence[Job], pictures: Pictures = AS_THEY_ARE, rank: Rank = ALONE
) -> tuple[int, int]:
    """Have this rank's share of the pictures answered and the answers kept; no result is written.

    Returns:
        How many pictures have their answers, and how many cannot be used.

    Raises:
        InputError: the answers cannot be kept.
    """
    answered = failed = 0
    # All ranks cut the benchmarks into the same blocks: the first says how.
    sizes = in_step(rank, lambda: None, lambda: [job.settings.new_block_size for job in jobs])
    for job, size in zip(jobs, sizes, strict=True):
        blocks = _share(job.benchmark, Begun(set(), size), rank)
        with _progress(job.benchmark.name, sum(map(len, blocks)), 0, rank) as bar:
            for block, requests, errors in _read_each(blocks, pictures):
                method.answer(requests)
                answered, failed = answered + len(requests), failed + len(errors)
                bar.update(len(block))
    return answered, failed


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


def groups_fingerprint(benchmark: Benchmark) -> str | None:
    """8 hex digits of which pictures belong together; None where none do."""
    groups = {item.id: item.group for item in benchmark.items if item.group is not None}
    return config_hash(groups) if groups else None


def _content(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        # The run will record the picture as failed, and another run must not go on once it can be read.
        return f"unreadable: {error.strerror}"


def fitting_block(method: Method, device: str) -> int:
    """How many pictures of a method that writes answers have room in the device's free memory, a power of two."""
    if not isinstance(method, Generates):
        return RunSettings.fitting_block
    most = _MOST_ON_CPU if device == "cpu" else _MOST_ON_GPU
    if not method.picture_bytes:
        return most
    fits = _SHARE_OF_MEMORY * free_memory(device) / method.picture_bytes
    return min(most, 1 << max(0, int(fits).bit_length() - 1))


def cropped_to_faces(device: str) -> Pictures:
    """The largest face of each, with the margin used everywhere; a picture without one cannot be used."""
    from ffaa.data.faces import FaceDetector, crop_face

    detector = FaceDetector(device)
    # On a CPU the detector and the method would take the cores from each other, each waiting actively for its threads.
    return Pictures(lambda image: crop_face(image, detector.largest(image).box), ahead=device != "cpu")


def corrupted(chain: Prepare, pictures: Pictures) -> Pictures:
    """Pictures that go through a chain of corruptions before whatever else is done to them."""
    prepare = pictures.prepare
    return replace(pictures, prepare=chain if prepare is None else lambda image: prepare(chain(image)))


def _share(benchmark: Benchmark, begun: Begun, rank: Rank) -> list[Block]:
    """The blocks that lack a line and are this rank's to analyse."""
    items, size = benchmark.items, begun.block_size
    blocks: list[Block] = [items[start : start + size] for start in range(0, len(items), size)]
    return [block for block in blocks if any(item.id not in begun.done for item in block)][rank.index :: rank.count]


def _analyse(method: Method, job: Job, blocks: Sequence[Block], done: set[str], pictures: Pictures, rank: Rank) -> None:
    predictions, timings = (LineWriter(own_file(job.folder, name, rank)) for name in (PREDICTIONS, TIMINGS))
    missing = sum(item.id not in done for block in blocks for item in block)
    with predictions, timings, _progress(job.benchmark.name, missing, len(done), rank) as bar:
        began = time.perf_counter()
        for block, requests, errors in _read_each(blocks, pictures):
            lines = _lines(method, block, requests, errors)
            for line in lines:
                if line["id"] not in done:
                    predictions.write(line)
                    bar.update()
            now = time.perf_counter()
            timings.write({"first": block[0].id, "n": len(block), "seconds": round(now - began, 4)})
            began = now


def _progress(name: str, missing: int, done: int, rank: Rank) -> tqdm[Any]:
    # On a terminal a moving bar; in a log file a line now and then. Of several ranks the first shows its share.
    pause = 0.1 if sys.stderr.isatty() else 15.0
    if rank.count > 1:
        name, done = f"{name} (rank 0 of {rank.count})", 0
    return tqdm(
        total=done + missing, initial=done, desc=name, unit=" pictures", mininterval=pause, disable=rank.index > 0
    )


def _read_each(blocks: Sequence[Block], pictures: Pictures) -> Iterator[tuple[Block, list[Request], dict[str, str]]]:
    """Each block with its pictures and the reasons why some are none; with ``ahead`` the next is read meanwhile."""
    prepare = pictures.prepare
    if not pictures.ahead:
        for block in blocks:
            yield block, *_read(block, prepare)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="pictures") as reader:
        coming = [reader.submit(_read, block, prepare) for block in blocks[:1]]
        for index, block in enumerate(blocks):
            requests, errors = coming.pop().result()
            coming = [reader.submit(_read, following, prepare) for following in blocks[index + 1 : index + 2]]
            yield block, requests, errors


def _read(block: Block, prepare: Prepare | None) -> tuple[list[Request], dict[str, str]]:
    """Only the pictures that open go to the method, the same ones each time."""
    requests: list[Request] = []
    errors: dict[str, str] = {}
    for item in block:
        try:
            image = open_image(item.path)
            requests.append(Request(image=prepare(image) if prepare else image, id=item.id))
        except InputError as error:
            errors[item.id] = str(error)
    return requests, errors


def _lines(
    method: Method, block: Block, requests: Sequence[Request], errors: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One line per item."""
    analyses = method.analyze(requests) if requests else []
    if len(analyses) != len(requests):
        raise RuntimeError(f"method {method.name} gave {len(analyses)} analyses for {len(requests)} requests")
    found = {request.id: analysis for request, analysis in zip(requests, analyses, strict=True)}
    return [_line(item, found.get(item.id), errors.get(item.id)) for item in block]


def _line(item: Item, analysis: Analysis | None, error: str | None) -> dict[str, Any]:
    line: dict[str, Any] = {"id": item.id, "label": item.label, "forgery_type": item.forgery_type}
    if item.group is not None:
        line["group"] = item.group
    if analysis is not None:
        error = error or analysis.nonsense
    if analysis is None or error is not None:
        return {**line, "status": "failed", "error": " ".join(str(error).split())}
    facts = to_plain(analysis.to_json())
    del facts["id"]
    return {**line, "status": "ok", "error": None, **facts}
