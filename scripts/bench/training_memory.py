"""Computed memory of training (``train.py --dry_run``) against what a process really takes at its peak.

Each row is a process of its own that trains a few steps on the CPU (Linux): its memory at the highest while it trains,
less what it was before the model was built. Size tiny itself is no test, since its tensors are smaller than what a
process takes besides; ``wide`` is tiny's configuration with wider layers, on pictures made for it.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffaa.config import CONFIGS, dump_yaml, load_yaml, parse, read_yaml
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, run_door
from ffaa.types import InputError, Record

if TYPE_CHECKING:
    from ffaa.methods.base import StageRun

PATTERN = "size   stage  checkpointing  computed MB  measured MB  computed / measured"


@dataclass(frozen=True)
class Options:
    data: Path = PROJECT_ROOT / "data" / "mini"
    """Built data of size mini (scripts/data/build_mini.py); without it, only size wide is measured."""
    sizes: str = "wide,mini"
    """What to measure."""
    steps: int = 2
    """Steps that each process trains."""
    threads: int = 2
    """Threads of each process."""


def main() -> int:
    options = parse(Options, prog="training_memory.py", description=__doc__ or "")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    # What is freed goes back at once; else the heap's holes would be measured too.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    print(PATTERN, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes.split(","):
            for config in configs(size, options, Path(folder)):
                show(size, config)
    return EXIT_DONE


def configs(size: str, options: Options, folder: Path) -> list[StageConfig]:
    """Stage 1 with and without checkpointing, and MIDS."""
    changes: dict[str, Any] = {"max_steps": options.steps, "save_steps": 1000, "device": "cpu", "validation": None}
    if size == "wide":
        data, model = make_data(folder / "wide"), make_model(folder / "model")
        plain = StageConfig(model=str(model), data=data, batch_size=16, dtype="float32", **changes)
        groups = [ParameterGroup("lora_|modules_to_save", 1e-4)]
        stages = [replace(plain, stage="mllm", groups=groups)]
        stages.append(replace(plain, stage="mids", groups=[ParameterGroup(".*", 1e-4)]))
    elif size == "mini":
        if not options.data.is_dir():
            raise InputError(f"no data at {options.data}: bash scripts/quickstart.sh --full builds it, or --sizes wide")
        found = {name: load_yaml(CONFIGS / "ffaa" / "mini" / f"{name}.yaml", StageConfig) for name in ("mllm", "mids")}
        places = {"mllm": options.data / "training", "mids": options.data / "mids"}
        stages = [replace(one, data=places[name], init=None, **changes) for name, one in found.items()]
    else:
        raise InputError(f"a size is wide or mini, not {size!r}")
    stages = [replace(one, output=folder / f"{size}-{one.stage}") for one in stages]
    checkpointed = replace(stages[0], gradient_checkpointing=True, output=folder / f"{size}-checkpointed")
    return [stages[0], checkpointed, stages[1]]


def make_model(folder: Path) -> Path:
    """Size tiny, but wide: some 60 million parameters in the language model and in MIDS."""
    values: Any = read_yaml(CONFIGS / "ffaa" / "tiny" / "model.yaml")
    wide = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
    values["mllm"]["language"] |= {**wide, "num_key_value_heads": 4}
    values["mllm"] |= {"vision": values["mllm"]["vision"] | {**wide, "image_size": 112}, "image_size": 112}
    values["mids"]["text"] |= wide
    values["mids"] |= {"vision": values["mllm"]["vision"], "image_size": 112, "hidden_dim": 512, "heads": 8}
    folder.mkdir(parents=True)
    dump_yaml(values, folder / "model.yaml")
    return folder


def make_data(folder: Path) -> Path:
    """Thirty-two plain pictures, each with one conversation and three answers of equal length."""
    from PIL import Image

    from ffaa.data.records import write_records

    (folder / "imgs").mkdir(parents=True)
    records, answers, words = [], [], ("real", "fake", "real")
    text = "Image description: a face.\nForgery reasoning: {} of editing.\nAnalysis result: {}\nForgery type: None"
    for index in range(32):
        Image.new("RGB", (112, 112), (8 * index, 100, 100)).save(folder / "imgs" / f"{index}.png")
        turns = (
            {"from": "human", "value": "<image>\nIs it?"},
            {"from": "gpt", "value": text.format("No signs", "real")},
        )
        record = Record(id=str(index), image=f"imgs/{index}.png", label="real", conversations=turns)
        said = [
            {"content": text.format("No signs", word), "result": word, "label": int(word == "fake")} for word in words
        ]
        records.append(record)
        answers.append(replace(record, answers=tuple(said)))
    write_records(folder / "records.jsonl", records)
    write_records(folder / "answers.jsonl", answers)
    return folder


def show(size: str, config: StageConfig) -> None:
    """One row: both numbers come from processes of their own."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        computed = pool.apply(compute, (config,))
        measured = pool.apply(measure, (config,))
    way = "yes" if config.gradient_checkpointing else "no"
    ratio = f"{computed / measured:19.2f}"
    print(f"{size:<6} {config.stage:<6} {way:<13}  {computed / 1e6:11.0f}  {measured / 1e6:11.0f}  {ratio}", flush=True)


def compute(config: StageConfig) -> int:
    """Bytes that the plan gives for one rank without DeepSpeed."""
    from ffaa.methods import find_stage
    from ffaa.training.memory import on_device
    from ffaa.training.plan import make_plan

    plan = make_plan(find_stage(config.method, config.stage), config)
    return on_device(plan.memory["ZeRO-0"]) + plan.activations[config.gradient_checkpointing]


def measure(config: StageConfig) -> int:
    """Bytes by which the process's own memory grew at most while the stage trained."""
    from ffaa.methods import find_stage
    from ffaa.training.trainer import train

    watched = Watched(find_stage(config.method, config.stage))
    before = own_bytes()
    train(watched, config)
    watched.done.set()
    return watched.peak - before


class Watched:
    """A stage whose loading is left out of the peak: weights are read in float32 before they are cast."""

    def __init__(self, stage: Any) -> None:
        self.stage = stage
        self.name: str = stage.name
        self.peak = 0
        self.done = threading.Event()

    def prepare(self, config: StageConfig) -> StageRun:
        """As the stage's own; from its end on the peak is watched."""
        run: StageRun = self.stage.prepare(config)
        threading.Thread(target=self._watch, daemon=True).start()
        return run

    def _watch(self) -> None:
        while not self.done.wait(0.005):
            self.peak = max(self.peak, own_bytes())


def own_bytes() -> int:
    """Resident bytes of this process that are no file's: of a weights file that was read, the page cache has a copy."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon:")).split()[1])


if __name__ == "__main__":
    run_door(main)
