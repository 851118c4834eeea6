"""``--dry_run``: what a stage would train, in how many steps and in how much memory, from its outline alone."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from ffaa.methods.base import Outline, Outlines, Stage, Texts
from ffaa.methods.stage_config import StageConfig
from ffaa.runtime import Rank, pick_device, pick_dtype
from ffaa.training.memory import HOST, STRATEGIES, Sizes, Strategy, activations, model_states, on_device
from ffaa.training.trainer import freeze
from ffaa.types import InputError

GIB = 2**30


@dataclass(frozen=True)
class Group:
    """Parameters that learn at one rate."""

    pattern: str
    lr: float
    parameters: int


@dataclass(frozen=True)
class Plan:
    """What ``make_plan`` found."""

    config: StageConfig
    groups: Sequence[Group]
    frozen: Mapping[str, int]
    """Part -> parameters."""
    ranks: int
    samples: int
    texts: Texts
    tokens: float
    """Tokens of one sample on average, its picture's and its texts'."""
    counted: Mapping[str, bool]
    """Of ``samples`` and ``texts``: read from the data (True) or assumed."""
    steps_per_epoch: int
    steps: int
    warmup_steps: int
    memory: Mapping[str, Mapping[str, int]]
    """Strategy -> part -> bytes on one rank, activations left out."""
    activations: Mapping[bool, int]
    """Bytes of one rank's activations, {False: all kept, True: recomputed}; the second is missing where it has none."""

    @property
    def trained(self) -> int:
        """Trained parameters."""
        return sum(group.parameters for group in self.groups)

    @property
    def global_batch(self) -> int:
        """Samples a step."""
        return self.ranks * self.config.batch_size * self.config.accumulation


def make_plan(stage: Stage, config: StageConfig) -> Plan:
    """Plan a stage. Reads configurations and, where they are there, data; no weights.

    Raises:
        InputError: a stage that cannot be planned, samples that are neither there nor assumed, and all that the stage's
            ``outline`` and ``freeze`` refuse.
    """
    if not isinstance(stage, Outlines):
        raise InputError(f"stage {stage.name} is too small to be planned: it has no dry run")
    outline = stage.outline(config)
    ranks = _ranks(config)
    assumed = config.assume
    samples = outline.samples or assumed.samples
    if not samples:
        raise InputError(f"no data at {config.data}, and no assume.samples to plan with")
    texts = outline.texts or Texts(assumed.mean_text, assumed.longest_text, assumed.loss_tokens)
    freeze(outline.model, config.groups)
    groups = _groups(outline.model, config)
    frozen = {part: sum(p.numel() for _, p in _of_part(outline, part) if not p.requires_grad) for part in outline.parts}
    per_epoch, steps = _steps(config, samples, ranks)
    sizes = _sizes(outline, config)
    memory = {strategy.name: model_states(sizes, strategy, ranks) for strategy in _possible(outline)}
    dtype = pick_dtype(config.dtype, pick_device(config.device))
    return Plan(
        config=config,
        groups=groups,
        frozen=frozen,
        ranks=ranks,
        samples=samples,
        texts=texts,
        tokens=outline.image_tokens + outline.texts_per_sample * texts.mean,
        counted={"samples": outline.samples is not None, "texts": outline.texts is not None},
        steps_per_epoch=per_epoch,
        steps=steps,
        warmup_steps=math.ceil(steps * config.warmup_share),
        memory=memory,
        activations=activations(
            outline.model,
            lambda: outline.step(config.batch_size, texts),
            dtype,
            checkpointing=outline.checkpoints,
            gpu=config.device != "cpu",
        ),
    )


def _ranks(config: StageConfig) -> int:
    return Rank.of_this_process().count if "WORLD_SIZE" in os.environ else config.assume.ranks


def _groups(model: nn.Module, config: StageConfig) -> list[Group]:
    counts = [0] * len(config.groups)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            counts[next(i for i, group in enumerate(config.groups) if re.search(group.pattern, name))] += (
                parameter.numel()
            )
    return [Group(one.pattern, one.lr, count) for one, count in zip(config.groups, counts, strict=True)]


def _of_part(outline: Outline, part: str) -> list[tuple[str, nn.Parameter]]:
    def belongs(name: str) -> bool:
        return next(key for key, pattern in outline.parts.items() if re.search(pattern, name)) == part

    return [(name, parameter) for name, parameter in outline.model.named_parameters() if belongs(name)]


def _steps(config: StageConfig, samples: int, ranks: int) -> tuple[int, int]:
    """Steps of an epoch and of all, as the Trainer counts: batches are dealt to ranks, the last one is filled up."""
    batches = math.ceil(math.ceil(samples / config.batch_size) / ranks)
    per_epoch = math.ceil(batches / config.accumulation)
    return per_epoch, config.max_steps if config.max_steps > 0 else math.ceil(config.epochs * per_epoch)


def _sizes(outline: Outline, config: StageConfig) -> Sizes:
    trained = frozen = 0
    held = 0.0
    for name, parameter in outline.model.named_parameters():
        if parameter.requires_grad:
            trained += parameter.numel()
            continue
        frozen += parameter.numel()
        packed = next((size for pattern, size in outline.packed.items() if re.search(pattern, name)), None)
        held += parameter.numel() * (parameter.itemsize if packed is None else packed)
    return Sizes(int(held), frozen, trained, 4 if config.dtype == "float32" else 2)


def _possible(outline: Outline) -> list[Strategy]:
    # Packed weights cannot be spread over ranks.
    return [strategy for strategy in STRATEGIES if strategy.stage < 3 or not outline.packed]


def describe(plan: Plan) -> str:
    """The plan as text for people, in a line of 120 characters at most."""
    console = Console(file=io.StringIO(), width=120, highlight=False)
    config, origin = plan.config, {True: "read from the data", False: "assumed"}
    console.print(f"stage {config.stage} of {config.method}/{config.model}, planned without weights")
    console.print(
        _table(
            [("trained parameters", "", "lr", "pattern")],
            [("", f"{group.parameters:,}", f"{group.lr:g}", group.pattern) for group in plan.groups],
            [("in all", f"{plan.trained:,}", "", "")],
        )
    )
    console.print(
        _table(
            [("frozen parameters", "")],
            [(part, f"{count:,}") for part, count in plan.frozen.items() if count],
            [("in all", f"{sum(plan.frozen.values()):,}")],
        )
    )
    console.print(
        _table(
            [("steps", "", "")],
            [
                ("samples", f"{plan.samples:,}", origin[plan.counted["samples"]]),
                ("a step", f"{plan.global_batch:,}", _product(plan)),
                ("steps an epoch", f"{plan.steps_per_epoch:,}", ""),
                ("steps in all", f"{plan.steps:,}", ""),
                ("of them warm-up", f"{plan.warmup_steps:,}", ""),
                ("tokens of a text", f"{plan.texts.mean:,.0f}", f"on average, {origin[plan.counted['texts']]}"),
                ("of the longest", f"{plan.texts.longest:,}", origin[plan.counted["texts"]]),
                ("tokens a sample", f"{plan.tokens:,.0f}", "on average, its picture's too"),
                ("tokens a step", f"{plan.tokens * plan.global_batch:,.0f}", "on average, padding not counted"),
            ],
        )
    )
    console.print(_memory(plan))
    console.print(
        f"Memory is computed, not measured: of one rank, for {config.batch_size} samples at once, all as long as the "
        "longest.\nWhat CUDA, its libraries and the allocator's gaps take comes on top.",
        soft_wrap=True,
    )
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def _product(plan: Plan) -> str:
    config = plan.config
    return f"{plan.ranks} ranks x {config.batch_size} a batch x {config.accumulation} batches"


def _memory(plan: Plan) -> Table:
    memory = plan.memory.values()
    parts = [part for part in dict.fromkeys(part for row in memory for part in row) if part != HOST]
    rows = [[(part, *(_gib(row.get(part)) for row in memory)) for part in parts]]
    said = {False: "activations, all kept", True: "activations, recomputed"}
    for way, size in plan.activations.items():
        mark = " *" if way == plan.config.gradient_checkpointing else ""
        sums = (_gib(on_device(row) + size) for row in memory)
        rows.append([(said[way], *(_gib(size) for _ in memory)), (f"in all{mark}", *sums)])
    if any(HOST in row for row in memory):
        rows.append([(HOST, *(_gib(row.get(HOST)) for row in memory))])
    rows.append([("* as configured", *("" for _ in memory))])
    return _table([("memory in GiB, computed", *plan.memory)], *rows)


def _gib(size: int | None) -> str:
    return "-" if size is None else f"{size / GIB:.2f}"


def _table(header: Sequence[tuple[str, ...]], *sections: Sequence[tuple[str, ...]]) -> Table:
    """Columns of numbers, the first and those of words left-justified; a rule between sections."""
    table = Table(box=SIMPLE, pad_edge=False)
    for index, name in enumerate(header[0]):
        words = any(row[index][:1].isalpha() for section in sections for row in section)
        table.add_column(name, justify="left" if words else "right", no_wrap=True)
    for section in sections:
        for row in section:
            table.add_row(*(escape(text) for text in row), end_section=row is section[-1])
    return table
