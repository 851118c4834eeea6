"""From a command's options to scored benchmarks: which method, which pictures, which result folder."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ffaa.config import Switch, model_folder, read_yaml
from ffaa.data.benchmark import Benchmark, load_benchmark, read_groups
from ffaa.evaluation.answer_cache import AnswerCache
from ffaa.evaluation.cached_method import CachedMethod
from ffaa.evaluation.predictions import read_lines, without_collector
from ffaa.evaluation.result_folder import (
    PREDICTIONS,
    Job,
    RunSettings,
    Scoring,
    count_to_score,
    read_config,
    rescore,
    validated_threshold,
)
from ffaa.evaluation.runner import (
    AS_THEY_ARE,
    Pictures,
    corrupted,
    cropped_to_faces,
    data_fingerprint,
    fitting_block,
    groups_fingerprint,
    run_jobs,
    select,
    write_answers,
)
from ffaa.methods.base import Generates
from ffaa.runtime import PROJECT_ROOT, Rank, config_hash, dtype_name, pick_device, seed_everything
from ffaa.types import InputError, Mode

if TYPE_CHECKING:
    from ffaa.methods.base import Method

    _Loaded = tuple[Method, dict[str, Any], str]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringOptions:
    """What every evaluation can be told."""

    benchmark: str = ""
    """Name of a folder of benchmark/ (or its path); several with commas between them."""
    checkpoint: Path | None = None
    """Folder of weights to use instead of those that the model's config names."""
    eval_num: int = -1
    """How many pictures of each benchmark, spread evenly over labels and types; -1 for all."""
    limit: int = -1
    """The same as eval_num, by the name that the other commands use."""
    crop: Switch = False
    """Find the largest face and crop to it first, for benchmarks of uncropped pictures."""
    degrade: str = ""
    """Corrupt every picture first: NAME:VALUE or NAME@LEVEL (1 to 5), several joined by +, such as resize:0.5+jpeg@3;
    saturation, contrast, blocks, noise, blur, pixelate, jpeg, resize."""
    max_new_tokens: int | None = None
    """Token limit of an answer, instead of the model config's."""
    run: str | None = None
    """Name of the result folder, instead of one made of method, model and a hash of config, weights and data."""
    fresh: Switch = False
    """Start anew instead of going on with a result folder that is there."""
    score_only: Path | None = None
    """A result folder whose metrics are made again from its predictions; nothing is analysed, no model is loaded."""
    groups: Path | None = None
    """With score_only: JSON file that maps pictures to their person or video, for results that hold no groups."""
    threshold_from: Path | None = None
    """With score_only: result folder of a validation split that fixes the threshold of the method's score."""
    seed: int = 0
    """Chooses the free question of each picture and seeds whatever is drawn."""
    block_size: int | None = None
    """Pictures analysed together; by default as many as memory has room for, 32 on a CPU and 64 on a GPU at most."""
    mode: Literal["all", "generate", "score"] = "all"
    """generate: have the answers written and kept, no more; score: judge kept answers, without the language model."""
    cache: Switch = True
    """Use answers that earlier runs kept, and keep new ones; 0 neither uses nor keeps any."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16."""
    attn_implementation: str | None = None
    """Attention of the language model by transformers' name: sdpa, eager, flash_attention_2 where it is installed."""
    compile: Switch = False
    """Compile the language model (torch.compile); worth its minutes on long runs on a GPU."""
    quantize: Literal["4bit", "8bit"] | None = None
    """Hold the layers of a language model of the hub in 4 or 8 bits: less memory, other answers; needs a GPU."""
    offline: Switch = False
    """Download nothing: what is not in the cache is an error."""
    benchmark_root: Path | None = None
    """Folder of the benchmarks, instead of benchmark/ of the project."""
    result_root: Path | None = None
    """Folder of the results, instead of results/ of the project."""


@dataclass(frozen=True)
class EvalConfig(ScoringOptions):
    """Options of an evaluation."""

    method: str = "ffaa"
    """The system to evaluate."""
    model: str = "mini"
    """A folder of configs/<method>/, or the path of such a folder."""
    generate_num: int | None = None
    """Answers per picture: 1 the free question alone, 2 with the opposite hypothesis, 3 with both; the model says."""


@dataclass(frozen=True)
class Result:
    """A scored benchmark: by which method, in which folder, and the summary (``ffaa.metrics.detection.summarize``)."""

    benchmark: str
    method: str
    folder: Path
    summary: dict[str, Any]
    degrade: str = ""

    @property
    def title(self) -> str:
        """The benchmark, and how its pictures were corrupted."""
        return f"{self.benchmark} under {self.degrade}" if self.degrade else self.benchmark


def evaluate(config: EvalConfig) -> list[Result]:
    """Score each benchmark that the options name, going on where an earlier run stopped.

    Several processes that a launcher started share the pictures; the last of them to end returns the results, the
    others an empty list.

    Raises:
        InputError: an unknown benchmark, method or model, options that contradict each other, weights that do not
            load, or a result folder that cannot be gone on with. Nothing has been analysed then. Under ``Mode.SCORE``
            also an answer that was not kept.
    """
    _refuse_mode_of_a_result(config)
    if config.score_only:
        with without_collector():
            return [_score_again(config.score_only, config)]
    if config.groups or config.threshold_from:
        raise InputError("--groups and --threshold_from are for --score_only")
    return _results(config, _plan(config))


def sweep(config: EvalConfig, degrade: Sequence[str]) -> Iterator[list[Result]]:
    """:func:`evaluate` under each of some corruptions (as of ``--degrade``, "" for none) with a method loaded once.

    Raises:
        InputError: as :func:`evaluate`, before anything is analysed for a corruption that is none.
    """
    from ffaa.data.corruptions import parse_chain

    for text in filter(None, degrade):
        parse_chain(text)
    load = functools.cache(lambda: _load_method(config))
    for text in degrade:
        under = replace(config, degrade=text)
        yield _results(under, _plan(under, load))


def _results(config: EvalConfig, plan: _Plan) -> list[Result]:
    summaries = run_jobs(plan.method, plan.jobs, plan.pictures, plan.rank)
    if summaries is None:
        return []
    return [
        Result(job.benchmark.name, config.method, job.folder, summary, job.settings.config.get("degrade", ""))
        for job, summary in zip(plan.jobs, summaries, strict=True)
    ]


def generate(config: EvalConfig) -> tuple[int, int, Path]:
    """Have the answers to all pictures of the benchmarks written and kept, for ``Mode.SCORE``.

    Returns:
        How many pictures of this process's share have their answers, how many cannot be used, and the file of answers.

    Raises:
        InputError: as :func:`evaluate`; or the answers cannot be kept.
    """
    _refuse_mode_of_a_result(config)
    if config.fresh:
        raise InputError("--mode generate makes no result to start afresh; `ffaa answers --clear` removes kept answers")
    plan = _plan(config)
    if not isinstance(plan.method, CachedMethod):
        raise InputError("--mode generate keeps answers, which --cache 0 forbids")
    return *write_answers(plan.method, plan.jobs, plan.pictures, plan.rank), plan.method.cache.path


def _refuse_mode_of_a_result(config: EvalConfig) -> None:
    if config.score_only and config.mode != "all":
        raise InputError("--score_only reads a result and has no --mode")


@dataclass(frozen=True)
class _Plan:
    method: Method
    jobs: list[Job]
    pictures: Pictures
    rank: Rank


def _plan(config: EvalConfig, load: Callable[[], _Loaded] | None = None) -> _Plan:
    limit = _limit(config)
    # A name with its alias (ma, multiattack) or given twice is one benchmark.
    loaded = {found.root: found for found in (_load(name, config, limit) for name in _names(config.benchmark))}
    if config.run is not None and not re.fullmatch(r"\w[\w.-]*", config.run):
        raise InputError(f"--run {config.run!r} is no plain folder name")
    from ffaa.data.corruptions import parse_chain

    chain = parse_chain(config.degrade, config.seed) if config.degrade else None
    mode = Mode(config.mode)
    if mode is Mode.SCORE and not config.cache:
        raise InputError("--mode score judges kept answers, which --cache 0 forbids")
    if mode is Mode.SCORE and (config.attn_implementation is not None or config.compile or config.quantize):
        raise InputError(
            "--mode score loads no language model: --attn_implementation, --compile and --quantize are not for it"
        )
    rank = Rank.of_this_process()
    method, options, device = load() if load else _load_method(config)
    fitting = fitting_block(method, device)
    # A key that is there only where something is degraded leaves the names of other results as they were.
    extra = {"degrade": chain.text} if chain else {}
    jobs = [_job(benchmark, {**options, "limit": limit, **extra}, config, fitting) for benchmark in loaded.values()]
    if config.cache and isinstance(method, Generates):
        cache = AnswerCache(method.written_by)
        cache.check(mode)
        method = CachedMethod(method, cache, mode)
    pictures = cropped_to_faces(device) if config.crop else AS_THEY_ARE
    return _Plan(method, jobs, pictures if chain is None else corrupted(chain, pictures), rank)


def _job(benchmark: Benchmark, options: Mapping[str, Any], config: EvalConfig, fitting: int) -> Job:
    facts = {**options, "benchmark": benchmark.name, "data": data_fingerprint(benchmark)}
    if groups := groups_fingerprint(benchmark):
        facts["groups"] = groups
    name = config.run or "-".join(
        [config.method, options["model"], f"N{options['generate_num']}", config_hash([facts, config.block_size])]
    )
    folder = (config.result_root or PROJECT_ROOT / "results") / benchmark.name / name
    settings = RunSettings(facts, config.block_size, config.fresh, fitting_block=fitting)
    return Job(benchmark, folder, settings)


def _score_again(folder: Path, config: EvalConfig) -> Result:
    facts = _config_of(folder)
    scoring = Scoring()
    if config.groups:
        ids = {line["id"] for line in read_lines(folder / PREDICTIONS, texts=False)}
        scoring = replace(scoring, groups=read_groups(config.groups, ids))
    if config.threshold_from:
        _config_of(config.threshold_from)
        scoring = replace(scoring, threshold=validated_threshold(config.threshold_from))
    summary = rescore(folder, scoring)
    found, wanted = summary["n"] + summary["n_failed"], count_to_score(folder)
    if wanted is not None and found < wanted:
        log.warning("%s: only %d of the run's %d pictures are there; these are scored", folder, found, wanted)
    return Result(
        str(facts.get("benchmark", "")), str(facts.get("method", "")), folder, summary, str(facts.get("degrade", ""))
    )


def _config_of(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"no such result folder: {folder}")
    return read_config(folder)


def _limit(config: EvalConfig) -> int:
    for name, value in (("eval_num", config.eval_num), ("limit", config.limit)):
        if value < -1:
            raise InputError(f"{name} must be at least 1, or -1 for all pictures, got {value}")
    given = {value for value in (config.eval_num, config.limit) if value >= 0}
    if len(given) > 1:
        raise InputError(f"--eval_num {config.eval_num} and --limit {config.limit} are one option and disagree")
    return given.pop() if given else -1


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError("no benchmark given: use --benchmark NAME, or --score_only RESULT_FOLDER")
    return names


def _load(name: str, config: EvalConfig, limit: int) -> Benchmark:
    return select(load_benchmark(name, config.benchmark_root or PROJECT_ROOT / "benchmark"), limit)


def _load_method(config: EvalConfig) -> _Loaded:
    """The method, all that its analyses depend on, as it stands in a result's config, and the device it is on."""
    if config.offline:
        os.environ.update(FFAA_OFFLINE="1", HF_HUB_OFFLINE="1")
    model_dir = model_folder(config.method, config.model)
    # With "auto" written down, going on with a run on another machine could mix devices unseen.
    device = pick_device(config.device)
    dtype = dtype_name(config.dtype, device)
    seed_everything(config.seed)
    from ffaa.data.faces import CROP_MARGIN
    from ffaa.methods import load_method

    method = load_method(
        config.method,
        model_dir=model_dir,
        checkpoint=config.checkpoint,
        device=str(device),
        dtype=dtype,
        attn_implementation=config.attn_implementation,
        compile=config.compile,
        quantize=config.quantize,
        generate_num=config.generate_num,
        seed=config.seed,
        max_new_tokens=config.max_new_tokens,
        mode=Mode(config.mode),
    )
    options = {
        "method": config.method,
        "model": model_dir.name,
        "model_config": config_hash(read_yaml(model_dir / "model.yaml")),
        # Methods that always give one answer do not count them.
        "generate_num": method.generate_num,
        "max_new_tokens": config.max_new_tokens,
        "seed": config.seed,
        "crop_margin": CROP_MARGIN if config.crop else None,
        "device": device.type,
        "dtype": dtype,
        "attn_implementation": config.attn_implementation,
        "compile": config.compile,
        **({"quantize": config.quantize} if config.quantize else {}),  # results without it keep their names
        "fingerprint": method.fingerprint,
    }
    return method, options, str(device)
