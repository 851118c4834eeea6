"""Stage 2: MIDS learns to judge the stage-1 model's answers, on people that model never saw (FFAA, section 4)."""

from __future__ import annotations

from pathlib import Path

import torch

from ffaa.config import load_yaml, model_folder
from ffaa.data.formats import TrainingSet
from ffaa.methods.base import Outline, StageRun
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
from ffaa.methods.ffaa.mids_cache import MidsCache
from ffaa.methods.ffaa.mids_data import MidsCollator, MidsDataset, record_labels
from ffaa.methods.ffaa.mids_masks import MaskTaughtMids
from ffaa.methods.ffaa.outlines import mids_outline
from ffaa.methods.ffaa.watched import watch_choices
from ffaa.methods.stage_config import StageConfig
from ffaa.methods.stage_data import read_stage_data
from ffaa.runtime import config_hash, pick_device, pick_dtype, sha256_folder
from ffaa.types import InputError

OPTIONS = ("mask_weight", "augment", "image_folder")
ANSWERS_FILE = "answers.jsonl"
"""Records with labelled answers, written by scripts/data/generate_answers.py."""


class MidsStage:
    """Stage ``mids``: from pretrained towers; all it takes over from stage 1 are the answers.

    ``init``: a result of this stage to go on from, such as one trained on borrowed answers. Option ``mask_weight``,
    0 to 1: of the loss that teaches where a picture was edited (``mids_masks``), for sets with masks; 0: as published.
    Option ``augment``: whether training pictures are degraded, as published; where not, their states can be cached.
    Option ``image_folder``: what the pictures of a published file are relative to.
    """

    name = "mids"

    def prepare(self, config: StageConfig) -> StageRun:
        config.check_options(*OPTIONS)
        augments = config.switch_option("augment", True)
        mask_weight = config.share_option("mask_weight")
        if config.gradient_checkpointing:
            raise InputError(
                "gradient_checkpointing is for stage mllm; MIDS trains too few layers for it to save memory"
            )
        settings = load_yaml(model_folder(config.method, config.model) / "model.yaml", FfaaConfig)
        dtype = pick_dtype(config.dtype, pick_device(config.device))
        # Before the model, which takes a while: what is missing is said at once.
        data = read_stage_data(config, ANSWERS_FILE)
        for one in (data.train, data.validation):
            if one is not None:
                one.each(lambda record: record_labels(record, settings.mids.num_answers))
        # What learns stays in float32 under autocast; frozen parts need not be cast at every step.
        model = self._model(settings.mids, config).cast_frozen(dtype)
        processor = MidsProcessor(settings.mids, model.tokenizer)
        patches = settings.mids.image_size // model.image_encoder.config.patch_size if mask_weight else None

        cache = MidsCache.of_stage(config, model, processor, augments)
        opens = cache is None or cache.pictures is None

        def dataset(part: TrainingSet, augment: bool) -> MidsDataset:
            return MidsDataset(part.records, part.root, processor, augment, config.seed, patches, opens)

        def save(folder: Path) -> None:
            save_mids(model, folder / "mids", torch.bfloat16)
            data.write_facts(folder)

        validation = dataset(data.validation, augment=False) if data.validation else None
        taught = MaskTaughtMids(model, mask_weight, config.seed) if mask_weight else model
        watch = watch_choices(model, processor, data.validation) if data.validation else None
        given = {**data.hashes, "model.yaml": config_hash(settings.mids)}
        given |= {"init": sha256_folder(config.init / "mids")} if config.init else {}
        train, collate = dataset(data.train, augments), MidsCollator(processor, cache)
        return StageRun(taught, train, validation, collate, save, watch, given)

    def outline(self, config: StageConfig) -> Outline:
        """For ``--dry_run``."""
        config.check_options(*OPTIONS)
        if not config.data.exists():
            return mids_outline(config, None)
        records = read_stage_data(config, ANSWERS_FILE).train.records
        return mids_outline(config, [[str(answer["content"]) for answer in record.answers] for record in records])

    @staticmethod
    def _model(settings: MidsConfig, config: StageConfig) -> Mids:
        if config.init is None:
            return build_mids(settings, seed=config.seed)
        if read_config(config.init / "mids") != settings:
            raise InputError(f"the MIDS in {config.init} is another than model.yaml of {config.model} describes")
        return load_mids(config.init / "mids")
