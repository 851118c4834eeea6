"""A finished result read again without its model: the pictures that were answered, and the benchmark they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ffaa.data.benchmark import Benchmark, load_benchmark
from ffaa.evaluation.predictions import read_lines
from ffaa.evaluation.result_folder import CONFIG, PREDICTIONS, read_config
from ffaa.evaluation.runner import data_fingerprint, select
from ffaa.types import InputError


def answered_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of pictures that were answered.

    Raises:
        InputError: there are none, or the file cannot be read.
    """
    done = [line for line in read_lines(folder / PREDICTIONS) if line["status"] == "ok" and line["answers"]]
    if not done:
        raise InputError(f"{folder / PREDICTIONS} holds no answered picture")
    return done


def benchmark_of(folder: Path, root: Path) -> Benchmark:
    """The benchmark that a result was made on, in ``root``.

    Raises:
        InputError: the result's config does not say which, or it is not there or another one now.
    """
    facts = read_config(folder)
    name, limit = facts.get("benchmark"), facts.get("limit", -1)
    if not isinstance(name, str) or not name:
        raise InputError(f"{folder / CONFIG}: benchmark must be a name, got {name!r}")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < -1 or limit == 0:
        raise InputError(f"{folder / CONFIG}: limit must be a number of pictures, or -1 for all, got {limit!r}")
    benchmark = load_benchmark(name, root)
    if facts.get("data") not in (None, data_fingerprint(select(benchmark, limit))):
        raise InputError(f"{folder} was made on another {name} than the one in {benchmark.root}")
    return benchmark
