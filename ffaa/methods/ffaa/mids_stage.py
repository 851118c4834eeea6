"""Stage 2: MIDS learns to judge the stage-1 model's answers, on people that model never saw (FFAA, section 4)."""

from __future__ import annotations

from pathlib import Path

import torch

from ffaa.config import load_yaml, model_folder
from ffaa.data.records import read_records
from ffaa.methods.base import StageRun
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.ffaa.mids import (
    Mids,
    MidsConfig,
    MidsProcessor,
    build_mids,
    load_mids,
    read_config,
    save_mids,
)
from ffaa.methods.ffaa.mids_data import MidsCollator, MidsDataset
from ffaa.methods.stage_config import StageConfig
from ffaa.runtime import pick_device, pick_dtype
from ffaa.types import InputError

ANSWERS_FILE = "answers.jsonl"
"""Records with labelled answers, written by scripts/data/generate_answers.py."""


class MidsStage:
    """Stage ``mids``: from pretrained towers; all it takes over from stage 1 are the answers.

    ``init``: a result of this stage to go on from, such as one trained on borrowed answers.
    """

    name = "mids"

    def prepare(self, config: StageConfig) -> StageRun:
        config.check_options()
        settings = load_yaml(model_folder(config.method, config.model) / "model.yaml", FfaaConfig)
        dtype = pick_dtype(config.dtype, pick_device(config.device))
        # Before the model, which takes a while: what is missing is said at once.
        folders = [folder for folder in (config.data, config.validation) if folder is not None]
        records = {folder: read_records(folder / ANSWERS_FILE, files_must_exist=True) for folder in folders}
        # What learns stays in float32 under autocast; frozen parts need not be cast at every step.
        model = self._model(settings.mids, config).cast_frozen(dtype)
        processor = MidsProcessor(settings.mids, model.tokenizer)

        def dataset(folder: Path, augment: bool) -> MidsDataset:
            return MidsDataset(records[folder], folder, processor, augment, config.seed)

        def save(folder: Path) -> None:
            save_mids(model, folder / "mids", torch.bfloat16)

        validation = dataset(config.validation, augment=False) if config.validation else None
        return StageRun(model, dataset(config.data, augment=True), validation, MidsCollator(processor), save)

    @staticmethod
    def _model(settings: MidsConfig, config: StageConfig) -> Mids:
        if config.init is None:
            return build_mids(settings, seed=config.seed)
        if read_config(config.init / "mids") != settings:
            raise InputError(f"the MIDS in {config.init} is another than model.yaml of {config.model} describes")
        return load_mids(config.init / "mids")
