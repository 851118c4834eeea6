"""One Trainer for every stage of every method: transformers' own, told what learns and how fast."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments, set_seed

from ffaa.backbones.adapter import check_numbers, check_tensors
from ffaa.config import dump_yaml, load_yaml
from ffaa.methods.base import Stage, StageRun
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.runtime import (
    Rank,
    atomic_write_text,
    check_seed,
    has_bfloat16,
    locked,
    make_folder,
    pick_device,
    to_plain,
    write_manifest,
)
from ffaa.training.audit import FreezeAudit, refuse_adapted_towers
from ffaa.training.length_groups import LengthGroups
from ffaa.training.reports import Speed, group_names, integrations
from ffaa.training.state import PREFIX, UNFINISHED, last_whole_state, publish, saving, seal
from ffaa.training.watching import watchers
from ffaa.training.zero import leave_out_what_is_frozen, whole
from ffaa.types import InputError

log = logging.getLogger(__name__)

TRAINABLE_FILE = "trainable.safetensors"
GIVEN = "given.json"
"""What a run learned from and began with, by hashes, beside its ``train.yaml``."""
_MAY_DIFFER = {
    *("max_steps", "epochs", "save_steps", "log_steps", "workers", "device", "output", "dry_run", "assume", "resume"),
    *("feature_cache", "feature_cache_gb", "report_to", "sample_steps", "validation_steps"),
    *("batch_size", "accumulation"),
}
"""Options under which a training may go on although they were others before; of the last two, and the number of ranks,
the product must stay."""


def freeze(model: nn.Module, groups: Sequence[ParameterGroup]) -> list[dict[str, Any]]:
    """Of the parameters that the stage lets learn, keep those that a pattern finds; optimiser groups of them.

    Raises:
        InputError: a pattern that finds nothing.
    """
    taken: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        index = next((i for i, group in enumerate(groups) if re.search(group.pattern, name)), None)
        if index is None:
            parameter.requires_grad_(False)
        else:
            # Decay pulls the weights of matrices to zero; for biases, norms and learned scales that has no meaning.
            taken.setdefault((index, parameter.ndim > 1), []).append(parameter)
    empty = [group.pattern for i, group in enumerate(groups) if (i, True) not in taken and (i, False) not in taken]
    if empty or not groups:
        raise InputError(f"no parameter is found by {', '.join(empty) or 'an empty list of groups'}")
    return [
        {"params": parameters, "lr": groups[i].lr, "weight_decay": groups[i].weight_decay if decays else 0.0}
        for (i, decays), parameters in sorted(taken.items(), key=lambda item: item[0])
    ]


class Epochs(TrainerCallback):
    """Tells what draws by epoch, data or sampler, which one begins: on several ranks accelerate does not reach it."""

    def __init__(self, *drawing: Any) -> None:
        self.drawing = [one for one in drawing if hasattr(one, "set_epoch")]

    def on_epoch_begin(self, _: Any, state: TrainerState, *__: Any, **___: Any) -> None:
        for one in self.drawing:
            one.set_epoch(int(state.epoch or 0))


class StageTrainer(Trainer):
    """Learning rates by parameter group; states that are whole or absent, and hold what learns alone."""

    optimizer: torch.optim.Optimizer | None

    def __init__(self, run: StageRun, config: StageConfig, arguments: TrainingArguments) -> None:
        refuse_adapted_towers(run.model)
        self.result = [parameter for parameter in run.model.parameters() if parameter.requires_grad]
        """What the stage saves in the end: all that it lets learn, whether or not a group takes it."""
        self.optimizer_groups = freeze(run.model, config.groups)
        self.speed = Speed()
        self.rates: list[float] = []
        self.group_names = group_names(run.model, config.groups, self.optimizer_groups)
        super().__init__(
            model=run.model,
            args=arguments,
            train_dataset=run.train,
            eval_dataset=run.validation,
            data_collator=run.collate,
            callbacks=[FreezeAudit(run.model)],
        )
        lengths = LengthGroups(run.train, self.samples_per_step, config.seed) if config.group_by_length else None
        self.length_groups = lengths
        self.add_callback(Epochs(run.train, lengths))
        for callback in watchers(self, run, config):
            self.add_callback(callback)

    def get_batch_samples(self, *arguments: Any, **options: Any) -> tuple[list[Any], Any]:
        batches, items = super().get_batch_samples(*arguments, **options)
        for batch in batches:
            self.speed.count(batch)
        self.rates = self.lr_scheduler.get_last_lr()  # of the step to come, which moves them when it is done
        return batches, items

    def log(self, logs: dict[str, float], *rest: Any, **options: Any) -> None:
        if "loss" in logs:  # all ranks come here at the same steps
            rates = dict(zip(self.group_names, self.rates, strict=True))
            logs = {**logs, **rates, **self.speed.figures(self.accelerator)}
        super().log(logs, *rest, **options)

    def learning(self) -> dict[str, nn.Parameter]:
        """Name -> parameter of all that learns."""
        return {name: p for name, p in self.accelerator.unwrap_model(self.model).named_parameters() if p.requires_grad}

    @property
    def samples_per_step(self) -> int:
        """Samples between two steps of the optimiser, over all ranks."""
        return self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        return self.length_groups or super()._get_train_sampler(train_dataset)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            kind, keywords = self.get_optimizer_cls_and_kwargs(self.args)
            keywords.pop("lr", None)
            self.optimizer = kind(self.optimizer_groups, lr=max(g["lr"] for g in self.optimizer_groups), **keywords)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        if self.is_deepspeed_enabled:  # called once the engine is made and before it loads anything
            leave_out_what_is_frozen(self.accelerator.deepspeed_engine_wrapped.engine)
        return super().create_scheduler(num_training_steps, optimizer)

    def _run_epoch(self, **options: Any) -> None:
        """transformers would take one step more where it goes on from the state of the last one."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**options)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        with whole(self.learning().values()):
            if self.args.should_save:
                self._save(output_dir)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: p.detach().cpu().contiguous() for name, p in sorted(self.learning().items())}
        self.refuse_overflow(tensors)
        save_file(tensors, folder / TRAINABLE_FILE)

    def refuse_overflow(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Raises InputError when what learns is no finite number any more; it must not take a sound state's place."""
        check_numbers(tensors, f"step {self.state.global_step} (a lower learning rate may help; sound states are kept)")

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(super()._get_output_dir(trial)) / UNFINISHED)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """A state of all ranks, written beside its place by transformers, sealed and named by the first rank."""
        place = Path(self.args.output_dir) / f"{PREFIX}{self.state.global_step}"
        if self.is_world_process_zero():  # what a killed run left there is no part of this state
            shutil.rmtree(self._get_output_dir(trial), ignore_errors=True)
        self.accelerator.wait_for_everyone()
        with saving(place):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                written = Path(self._get_output_dir(trial)) / place.name
                facts = {"ranks": self.args.world_size, "samples_per_step": self.samples_per_step}
                seal(written, {**facts, "deepspeed": self.is_deepspeed_enabled})
                publish(written, place)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        target = model if model is not None else self.model
        tensors = load_file(Path(resume_from_checkpoint) / TRAINABLE_FILE)
        learning = {name: parameter for name, parameter in target.named_parameters() if parameter.requires_grad}
        check_tensors(learning, tensors, Path(resume_from_checkpoint) / TRAINABLE_FILE)
        # Not strict: all that does not learn keeps what it was loaded with.
        target.load_state_dict(tensors, strict=False)


def train(stage: Stage, config: StageConfig) -> Path:
    """Run a stage to its end, going on from the last whole state in ``config.output``; gives the folder of the result.

    Raises:
        InputError: as the stage's ``prepare``, a group that finds no parameter, a state of something else or made
            under other options or from other content, a folder that cannot be made or that another training is writing
            to, a full disk, weights that are no finite numbers any more.
    """
    check_seed(config.seed)
    make_folder(config.output)
    with locked(config.output, f".lock-{Rank.of_this_process().index}"):
        return _train(stage, config)


def _train(stage: Stage, config: StageConfig) -> Path:
    last = last_whole_state(config.output / "checkpoints")
    if last is not None and not config.resume:
        raise InputError(f"{last[0]} is there already: --resume goes on from it, another --output starts anew")
    if last is not None:
        _refuse_other_options(config)
    set_seed(config.seed)
    # Before the arguments, which would have DeepSpeed cut every weight to pieces while it is loaded.
    run = stage.prepare(config)
    trainer = StageTrainer(run, config, training_arguments(config))
    _refuse_folders_of_their_own(config.output, trainer.args.world_size)
    if last is not None:
        _refuse_other_ranks(trainer, *last)
        _refuse_other_content(config.output, run.given)
    count = sum(p.numel() for p in trainer.learning().values())
    log.info("stage %s: %d trainable parameters, %d samples", stage.name, count, len(run.train))  # type: ignore[arg-type]
    if trainer.is_world_process_zero():
        dump_yaml(config, config.output / "train.yaml")
        atomic_write_text(config.output / GIVEN, json.dumps(run.given, indent=2) + "\n")
    trainer.train(resume_from_checkpoint=str(last[0]) if last else None)
    if run.validation is not None:
        trainer.evaluate()  # which logs what it finds
    with whole(trainer.result), saving(config.output):
        if trainer.is_world_process_zero():
            trainer.refuse_overflow(trainer.learning())
            run.save(config.output)
    if trainer.is_world_process_zero():
        write_manifest(config.output / "manifest.json", trainable_parameters=count, log=trainer.state.log_history)
    # A rank that left earlier could die of its open connections, for which a launcher ends the one that still saves.
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return config.output


def _refuse_other_options(config: StageConfig) -> None:
    """Raises InputError when the checkpoints in ``config.output`` were made under options that change the result."""
    path = config.output / "train.yaml"
    if not path.is_file():
        return
    before, now = to_plain(load_yaml(path, StageConfig)), to_plain(config)
    for key in now:
        if key not in _MAY_DIFFER and before[key] != now[key]:
            raise InputError(
                f"{config.output} was trained with {key} = {before[key]}, not {now[key]}; give another --output"
            )


def _refuse_other_content(output: Path, given: Mapping[str, str]) -> None:
    """Raises InputError when the checkpoints in ``output`` were made from other content than lies at the same paths."""
    path = output / GIVEN
    before = json.loads(path.read_text()) if path.is_file() else {}  # one of an earlier version has none
    for name, content in given.items():
        if before.get(name, content) != content:
            raise InputError(
                f"{output} was trained with another content of {name} than is there now; give another --output"
            )


def _refuse_folders_of_their_own(output: Path, ranks: int) -> None:
    """Raises InputError when ranks on other machines write elsewhere: each would save, and go on from, its part alone.

    Called once all ranks have met, each with its lock held.
    """
    missing = [str(rank) for rank in range(ranks) if not (output / f".lock-{rank}").exists()]
    if missing:
        raise InputError(
            f"ranks {', '.join(missing)} do not see {output} as it is here: give a folder that all machines share"
        )


def _refuse_other_ranks(trainer: StageTrainer, state: Path, facts: Mapping[str, Any]) -> None:
    """Raises InputError when a state was made by other ranks than can go on from it with the same samples a step."""
    now = {
        "samples a step": trainer.samples_per_step,
        "DeepSpeed": trainer.is_deepspeed_enabled,
        **({"ranks": trainer.args.world_size} if facts["deepspeed"] else {}),
    }
    before = {
        "samples a step": facts["samples_per_step"],
        "DeepSpeed": facts["deepspeed"],
        "ranks": facts["ranks"],
    }
    for name, value in now.items():
        if before[name] != value:
            why = ", each of which holds its own part" if name == "ranks" else ""
            raise InputError(f"{state} was saved with {name} = {before[name]}{why}, not {value}; give another --output")


def training_arguments(config: StageConfig) -> TrainingArguments:
    """transformers' arguments for a stage: AdamW, cosine decay after a linear warm-up."""
    device = pick_device(config.device)
    on_cpu = device.type == "cpu"
    if on_cpu and config.dtype == "bfloat16" and not has_bfloat16(device):
        log.warning("this CPU only emulates bfloat16, which takes many times as long: give --dtype float32")
    if on_cpu and config.dtype == "float16":
        raise InputError("float16 is for GPUs; on a CPU train in bfloat16 or float32")
    return TrainingArguments(
        output_dir=str(config.output / "checkpoints"),
        num_train_epochs=config.epochs,
        max_steps=config.max_steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=max((group.lr for group in config.groups), default=0.0),
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_share,
        max_grad_norm=config.max_grad_norm,
        bf16=config.dtype == "bfloat16",
        fp16=config.dtype == "float16",
        use_cpu=on_cpu,
        activation_checkpointing=config.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        tf32=True if config.tf32 and not on_cpu else None,
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=not on_cpu,
        save_steps=config.save_steps,
        save_total_limit=None,  # StageTrainer removes old states, once the new one is whole
        logging_steps=config.log_steps,
        logging_nan_inf_filter=False,  # which would show a loss that is no number as the mean of those before
        eval_strategy="no",
        seed=config.seed,
        data_seed=config.seed,
        deepspeed=str(config.deepspeed) if config.deepspeed else None,
        remove_unused_columns=False,
        report_to=integrations(config),
        label_names=["labels"],
    )
