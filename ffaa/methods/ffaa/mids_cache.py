"""What MIDS's frozen towers give, kept over steps and runs: states of unaugmented pictures, and of answers always."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ffaa.backbones.feature_cache import FeatureCache, Lookup, tower_identity
from ffaa.data.images import open_image
from ffaa.methods.ffaa.mids import Mids, MidsProcessor, visible_tokens
from ffaa.methods.stage_config import StageConfig
from ffaa.types import InputError


class MidsCache:
    """Looks up in the collator, so that a picture known is not opened; completes batches before ``model`` reads them.

    Texts are cached where padding is masked: without the mask, an answer's states move with the padding of its batch.
    """

    def __init__(self, model: Mids, processor: MidsProcessor, folder: Path, limit: int, *, pictures: bool) -> None:
        """``pictures``: none is augmented, so that their frozen states can be kept.

        Raises:
            InputError: the tokenizer pads on the left, where positions move with the batch.
        """
        if processor.tokenizer.padding_side != "right":
            raise InputError("feature_cache: the text encoder's tokenizer pads on the left, its states cannot be kept")
        self.processor = processor
        self.pictures: FeatureCache | None = None
        self.texts: FeatureCache | None = None
        if pictures:
            settings, tower = model.settings, model.image_encoder
            parts: dict[str, nn.Module] = {"embeddings": tower.embeddings, "pre_layrnorm": tower.pre_layrnorm}
            parts["layers"] = tower.encoder.layers[: model.first_unfrozen]
            identity = tower_identity(
                parts,
                kind="frozen",
                config=tower.config.to_json_string(),
                layers=model.frozen_layers,
                size=settings.image_size,
                channels=settings.channel_order,
            )
            self.pictures = FeatureCache(folder, limit, identity)
        if model.settings.padding_mask:
            self.texts = FeatureCache(folder, limit, tower_identity({"text": model.text_encoder}, kind="text"))
        model.register_forward_pre_hook(self._complete, with_kwargs=True)

    @classmethod
    def of_stage(cls, config: StageConfig, model: Mids, processor: MidsProcessor, augment: bool) -> MidsCache | None:
        """As a stage asks for it; None where ``feature_cache`` names no folder."""
        if config.feature_cache is None:
            return None
        limit = int(config.feature_cache_gb * 1e9)
        return cls(model, processor, config.feature_cache, limit, pictures=not augment)

    def look_up_pictures(self, paths: Sequence[Path]) -> dict[str, Any]:
        """``pixel_values`` of the pictures not known, and the ``pictures`` that are."""
        if self.pictures is None:
            raise ValueError("augmented pictures are not looked up")
        lookup = self.pictures.look_up([self.pictures.picture_key(path) for path in paths])
        size = self.processor.config.image_size
        unknown = [self.processor.image(open_image(paths[row])) for row in lookup["others"].tolist()]
        return {"pixel_values": torch.stack(unknown) if unknown else torch.empty(0, 3, size, size), "pictures": lookup}

    def look_up_texts(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Any]:
        """The ``texts`` known of answers (B, A, L), by their token ids."""
        if self.texts is None:
            return {}
        ids, lengths = input_ids.flatten(0, 1), _lengths(attention_mask.flatten(0, 1))
        keys = [self.texts.key(row[:length].numpy().tobytes()) for row, length in zip(ids, lengths, strict=True)]
        return {"texts": self.texts.look_up(keys, ids.shape[1])}

    def _complete(
        self, model: nn.Module, args: tuple[Any, ...], batch: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before ``model`` runs: what was not known is computed, kept, and put with the rest."""
        if not isinstance(model, Mids):
            raise TypeError("hooked on another model")
        pictures: Lookup | None = batch.pop("pictures", None)
        if pictures is not None and self.pictures is not None:
            inputs = (batch["pixel_values"],)
            batch["frozen"] = self.pictures.complete(pictures, inputs, model.image_encoder, model.frozen_states)
        texts: Lookup | None = batch.pop("texts", None)
        if texts is not None and self.texts is not None:
            rows = texts["others"]
            ids, mask = (batch[name].flatten(0, 1)[rows] for name in ("input_ids", "attention_mask"))
            mask = visible_tokens(mask)
            batch["text"] = self.texts.complete(
                texts, (ids, mask), model.text_encoder, model.encoded_texts, _lengths(mask)
            )
        return args, batch


def _lengths(mask: Tensor) -> list[int]:
    return [int(length) for length in visible_tokens(mask).sum(1)]
