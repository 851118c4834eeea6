"""A scored run as the report knows it: its predictions and figures, and which runs belong together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ffaa.reporting.tables import METHOD_TITLES, family

Line = Mapping[str, Any]

RESEARCH_FAMILIES = ("mini",)
"""Families of benchmarks that hold photographs of real people (CelebA), which may not be shown to others."""

_NOT_THE_SYSTEM = frozenset({"benchmark", "data", "limit", "block_size", "device", "groups"})
"""Keys of a config that say on what was scored, not what."""


@dataclass(frozen=True)
class Run:
    """One result folder.

    ``lines`` are those of ``predictions.jsonl``, failed ones included; ``summary`` is
    `ffaa.metrics.detection.summarize` of them; ``config`` and ``manifest`` are empty where the folder has none.
    """

    folder: Path
    benchmark: str
    lines: Sequence[Line]
    summary: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True
    """Whether every picture that the run was begun on has its line."""
    subgroups: Mapping[str, Any] = field(default_factory=dict)
    """Figures by group of people, as scripts/score_subgroups.py writes them; empty where they were not made."""
    explanation: Mapping[str, Any] = field(default_factory=dict)
    """How true the answers are, as scripts/score_answers.py writes it; empty where it was not made."""
    base: str = ""
    """The benchmark's own name, where ``benchmark`` says which pictures of that name (`told_apart`)."""

    @cached_property
    def done(self) -> list[Line]:
        """The lines of pictures that were analysed."""
        return [line for line in self.lines if line["status"] == "ok"]

    @property
    def method(self) -> str:
        """The method's name, empty where the folder does not say."""
        return str(self.config.get("method") or "")

    @property
    def title(self) -> str:
        """What was run, for people: method, size, number of answers, and what was done to the pictures."""
        parts = [METHOD_TITLES.get(self.method, self.method), str(self.config.get("model") or "")]
        if number := self.config.get("generate_num"):
            parts.append(f"{number} answer{'s' if number != 1 else ''}")
        if degrade := self.config.get("degrade"):
            parts.append(str(degrade))
        return ", ".join(part for part in parts if part) or self.folder.name

    @property
    def system(self) -> str:
        """What was scored, whatever it was scored on: equal for two runs of the same options and weights."""
        return json.dumps(
            {key: value for key, value in self.config.items() if key not in _NOT_THE_SYSTEM}, sort_keys=True
        )

    @property
    def changed_first(self) -> list[str]:
        """What was done to each of the benchmark's pictures before the method saw it."""
        degraded = [f"corrupted ({degrade})"] if (degrade := self.config.get("degrade")) else []
        return degraded + (["cropped to the largest face"] if self.config.get("crop_margin") is not None else [])

    @property
    def data(self) -> str:
        """What tells its pictures from others of the benchmark's name."""
        known = self.config.get("data")
        return f"data {known}" if known else f"limit {self.config.get('limit', 'unknown')}"

    @property
    def family(self) -> str:
        """The family of its benchmark."""
        return family(self.base or self.benchmark)

    @property
    def research_only(self) -> bool:
        """Whether its pictures may not leave the user's own disk."""
        return self.family in RESEARCH_FAMILIES


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs; those of one benchmark's name whose pictures are not the same get names of benchmarks that differ.

    Only what was scored on the same pictures may be compared, and a name is no proof of it: a benchmark is built anew,
    lies elsewhere, or is cut by ``--eval_num``.
    """
    kinds: dict[str, set[str]] = {}
    for run in runs:
        kinds.setdefault(run.base or run.benchmark, set()).add(run.data)
    found = []
    for run in runs:
        name = run.base or run.benchmark
        apart = len(kinds[name]) > 1
        found.append(replace(run, base=name, benchmark=f"{name} ({run.data})") if apart else run)
    return found


def letter(index: int) -> str:
    """A short name: A to Z, then A2 to Z2 and so on."""
    again = index // 26
    return chr(ord("A") + index % 26) + (str(again + 1) if again else "")


def labels_of(runs: Sequence[Run]) -> list[str]:
    """A name for each run: a letter where there are several, and its title, or its folder where titles are alike."""
    taken = [(run.benchmark, run.title) for run in runs]
    names = [run.title if taken.count(key) == 1 else run.folder.name for run, key in zip(runs, taken, strict=True)]
    return names if len(runs) == 1 else [f"{letter(index)}: {name}" for index, name in enumerate(names)]


def by_benchmark(runs: Sequence[Run]) -> dict[str, list[int]]:
    """Indices of the runs on each benchmark, in the order in which they first come."""
    places: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        places.setdefault(run.benchmark, []).append(index)
    return places


def by_system(runs: Sequence[Run]) -> list[dict[str, int]]:
    """For each system, benchmark -> index of its run; of several on one benchmark the last."""
    systems: dict[str, dict[str, int]] = {}
    for index, run in enumerate(runs):
        systems.setdefault(run.system, {})[run.benchmark] = index
    return list(systems.values())
