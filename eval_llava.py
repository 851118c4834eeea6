"""Evaluate the language model alone, one answer a picture: ``eval_llava.py --benchmark NAME --model_name mini``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from eval import run
from ffaa.config import parse
from ffaa.evaluation.benchmarks import EvalConfig, ScoringOptions
from ffaa.runtime import run_door

PUBLISHED_NAMES = {"llava-mistral-7b": "mistral"}
"""Model names of the published commands, and the folders of configs/llava/ that stand for them."""


@dataclass(frozen=True)
class LlavaConfig(ScoringOptions):
    """Options of an evaluation of the language model alone; those that eval.py has too mean the same."""

    model_name: str = "mini"
    """A folder of configs/llava/ or its path, or a published name such as llava-mistral-7b."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the evaluation that the command line asks for."""
    options = parse(LlavaConfig, argv, prog="eval_llava.py", description="Evaluate the language model alone.")
    shared = {field.name: getattr(options, field.name) for field in fields(options) if field.name != "model_name"}
    model = PUBLISHED_NAMES.get(options.model_name, options.model_name)
    return run(EvalConfig(method="llava", model=model, **shared))


if __name__ == "__main__":
    run_door(main)
