"""One Trainer for every stage of every method: transformers' own, told what learns and how fast."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainingArguments, set_seed
from transformers.trainer import TRAINER_STATE_NAME

from ffaa.backbones.adapter import check_tensors
from ffaa.config import dump_yaml, load_yaml
from ffaa.methods.base import Stage, StageRun
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.runtime import Rank, check_seed, locked, make_folder, pick_device, to_plain, write_manifest
from ffaa.types import InputError

log = logging.getLogger(__name__)

TRAINABLE_FILE = "trainable.safetensors"
_MAY_DIFFER = {"max_steps", "epochs", "save_steps", "log_steps", "workers", "device", "output"}
"""Options under which a training may go on although they were others before."""


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


class StageTrainer(Trainer):
    """Learning rates by parameter group; checkpoints hold what learns, since all else is known from its source."""

    optimizer: torch.optim.Optimizer | None

    def __init__(self, run: StageRun, config: StageConfig, arguments: TrainingArguments) -> None:
        self.optimizer_groups = freeze(run.model, config.groups)
        super().__init__(
            model=run.model,
            args=arguments,
            train_dataset=run.train,
            eval_dataset=run.validation,
            data_collator=run.collate,
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            kind, keywords = self.get_optimizer_cls_and_kwargs(self.args)
            keywords.pop("lr", None)
            self.optimizer = kind(self.optimizer_groups, lr=max(g["lr"] for g in self.optimizer_groups), **keywords)
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        learning = {n for n, p in self.accelerator.unwrap_model(self.model).named_parameters() if p.requires_grad}
        source = state_dict if state_dict is not None else self.accelerator.unwrap_model(self.model).state_dict()
        tensors = {name: source[name].detach().cpu().contiguous() for name in sorted(learning)}
        save_file(tensors, folder / TRAINABLE_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        target = model if model is not None else self.model
        tensors = load_file(Path(resume_from_checkpoint) / TRAINABLE_FILE)
        learning = {name: parameter for name, parameter in target.named_parameters() if parameter.requires_grad}
        check_tensors(learning, tensors, Path(resume_from_checkpoint) / TRAINABLE_FILE)
        # Not strict: all that does not learn keeps what it was loaded with.
        target.load_state_dict(tensors, strict=False)


def train(stage: Stage, config: StageConfig) -> Path:
    """Run a stage to its end, going on from the last checkpoint in ``config.output``; returns the folder of the result.

    Raises:
        InputError: as the stage's ``prepare``, a group that finds no parameter, a checkpoint of something else or made
            under other options, a folder that cannot be made or that another training is writing to.
    """
    check_seed(config.seed)
    make_folder(config.output)
    with locked(config.output, f".lock-{Rank.of_this_process().index}"):
        return _train(stage, config)


def _train(stage: Stage, config: StageConfig) -> Path:
    last = last_whole_checkpoint(config.output / "checkpoints")
    if last is not None:
        _refuse_other_options(config)
    set_seed(config.seed)
    arguments = training_arguments(config)
    run = stage.prepare(config)
    trainer = StageTrainer(run, config, arguments)
    count = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    log.info("stage %s: %d trainable parameters, %d samples", stage.name, count, len(run.train))  # type: ignore[arg-type]
    if trainer.is_world_process_zero():
        dump_yaml(config, config.output / "train.yaml")
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    if run.validation is not None:
        trainer.log(trainer.evaluate())
    if trainer.is_world_process_zero():
        run.save(config.output)
        write_manifest(config.output / "manifest.json", trainable_parameters=count, log=trainer.state.log_history)
    return config.output


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in a folder of them that was written to its end; one that a kill cut is passed over."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True):
        try:
            json.loads((path / TRAINER_STATE_NAME).read_text())  # written last
            with safe_open(path / TRAINABLE_FILE, "pt"):  # reads the header, which knows how long the file is
                pass
        except (OSError, ValueError, SafetensorError):
            log.warning("%s was not written to its end and is passed over", path)
            continue
        return path
    return None


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


def training_arguments(config: StageConfig) -> TrainingArguments:
    """transformers' arguments for a stage: AdamW, cosine decay after a linear warm-up."""
    on_cpu = pick_device(config.device).type == "cpu"
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
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=not on_cpu,
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=config.log_steps,
        eval_strategy="no",
        seed=config.seed,
        data_seed=config.seed,
        deepspeed=str(config.deepspeed) if config.deepspeed else None,
        remove_unused_columns=False,
        report_to=[],
        label_names=["labels"],
    )
