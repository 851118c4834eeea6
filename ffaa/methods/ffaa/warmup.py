"""Stage 0 of FFAA-mini: the projector learns to pass on what answers will say, read by throw-away linear heads.

The published recipe starts from a projector that LLaVA trained on captions. A projector from scratch learns little
through a language model in the samples that two CPU cores can afford; through linear heads it learns in minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from transformers.utils import ModelOutput

from ffaa.backbones.mixstyle import mix_statistics
from ffaa.backbones.mllm import MllmConfig, build_mllm
from ffaa.backbones.patch_features import patch_features
from ffaa.config import CONFIGS, load_yaml, model_folder
from ffaa.data.images import inside, open_mask
from ffaa.forge.dataset import PICTURES, read_pictures
from ffaa.forge.explain import GREY, OPEN_MOUTH, TURNED, Wording
from ffaa.forge.facts import level
from ffaa.forge.forgery import Kind
from ffaa.forge.one_region import OPERATIONS
from ffaa.forge.regions import EDITABLE
from ffaa.methods.base import StageRun
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.stage_config import StageConfig
from ffaa.runtime import config_hash, pick_device, pick_dtype, sha256_file

PROJECTOR_FILE = "projector.safetensors"

_KINDS = (Kind.REAL, Kind.BLEND, Kind.SWAP, Kind.LOCAL, Kind.SYNTHESIS)
_OPERATIONS = (*OPERATIONS, "smoothed")
_IGNORED = -100
_TERCILES = ("brightness", "sharpness", "background", "sharpness_ratio", "tone_difference")

HEADS: Mapping[str, int] = {
    "label": 2,
    "kind": len(_KINDS),
    "region": len(EDITABLE),
    "operation": len(_OPERATIONS),
    "edge": 2,
    "extent": 2,
    "light": 3,
    "saturation": 3,
    "blend_sharpness": 3,
    **dict.fromkeys(_TERCILES, 3),
    "pose": 3,
    "mouth": 2,
    "grey": 2,
}
"""What the heads read, and how many classes each has."""

_WEIGHTS: Mapping[str, float] = {"label": 1.0, "kind": 1.0, "region": 1.0, "operation": 0.5}
_FACT_WEIGHT = 0.25
_MASK_WEIGHT = 1.0


@dataclass
class WarmupOutput(ModelOutput):
    """Loss, and the logits (N, 2) of the real/fake head."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class ProjectorWarmup(nn.Module):
    """Patch features (N, P, C) -> projector -> attention pool and mean -> heads; and a mask logit per patch."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, projector: LlavaMultiModalProjector, width: int, mean: Tensor, std: Tensor, mixstyle: float = 0.0
    ) -> None:
        super().__init__()
        self.projector = projector
        self.mixstyle = mixstyle
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.queries = nn.Parameter(torch.randn(8, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 8, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.heads = nn.ModuleDict({name: nn.Linear(9 * width, classes) for name, classes in HEADS.items()})
        self.mask_head = nn.Linear(width, 1)

    def forward(self, features: Tensor, labels: Tensor, mask: Tensor) -> WarmupOutput:
        """``labels`` (N, len(HEADS)) with -100 where a head has nothing to say; ``mask`` (N, P) in [0, 1]."""
        if self.training and self.mixstyle:
            features = mix_statistics(features, self.mixstyle)
        tokens = self.norm(self.project((features.float() - self.mean) / self.std))
        queries = self.queries.expand(len(tokens), -1, -1)
        pooled, _ = self.attention(queries, tokens, tokens, need_weights=False)
        summary = self.dropout(torch.cat([pooled.flatten(1), tokens.mean(1)], dim=1))
        logits = {name: head(summary) for name, head in self.heads.items()}
        loss = _MASK_WEIGHT * F.binary_cross_entropy_with_logits(self.mask_head(tokens).squeeze(-1).float(), mask)
        for column, (name, scores) in enumerate(logits.items()):
            target = labels[:, column]
            if bool((target != _IGNORED).any()):
                weight = _WEIGHTS.get(name, _FACT_WEIGHT)
                loss = loss + weight * F.cross_entropy(scores.float(), target, ignore_index=_IGNORED)
        return WarmupOutput(loss=loss, logits=logits["label"])

    def project(self, standardised: Tensor) -> Tensor:
        """The projector's two layers on standardised features."""
        hidden = self.projector.act(self.projector.linear_1(standardised))
        out: Tensor = self.projector.linear_2(hidden)
        return out

    @torch.no_grad()
    def folded(self, sample: Tensor, embedding_std: float) -> dict[str, Tensor]:
        """Weights of a plain LLaVA projector.

        The standardisation goes into the first layer; the output's deviation on ``sample`` (N, P, C) is brought to
        that of the language model's embeddings.
        """
        tokens = self.project((sample.to(self.mean.device).float() - self.mean) / self.std)
        scale = embedding_std / tokens.std()
        first = self.projector.linear_1.weight / self.std
        return {
            "linear_1.weight": first,
            "linear_1.bias": self.projector.linear_1.bias - first @ self.mean,
            "linear_2.weight": self.projector.linear_2.weight * scale,
            "linear_2.bias": self.projector.linear_2.bias * scale,
        }


class FeatureDataset(Dataset[dict[str, Tensor]]):
    """Cached features of a built set with the heads' targets and the edited share of every patch."""

    def __init__(self, folder: Path, config: MllmConfig, wording: Wording, dtype: torch.dtype) -> None:
        self.pictures = read_pictures(folder)
        layers = config.vision_feature_layer
        self.features = patch_features(
            [inside(folder, picture["image"]) for picture in self.pictures],
            folder / "features",
            vision=str(config.vision),
            image_size=config.image_size,
            layers=[layers] if isinstance(layers, int) else layers,
            dtype=dtype,
        )
        self.grid = round(self.features.shape[1] ** 0.5)
        self.masks = [_patch_mask(folder, picture, self.grid) for picture in self.pictures]
        self.targets = [head_targets(picture, wording) for picture in self.pictures]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "features": torch.from_numpy(self.features[index].copy()),
            "labels": torch.tensor(self.targets[index]),
            "mask": torch.from_numpy(self.masks[index]),
        }


class ProjectorStage:
    """Stage ``projector``: trains projector and heads, keeps the projector. Option ``mixstyle`` as in stage mllm."""

    name = "projector"

    def prepare(self, config: StageConfig) -> StageRun:
        config.check_options("mixstyle")
        settings = load_yaml(model_folder(config.method, config.model) / "model.yaml", FfaaConfig)
        wording = load_yaml(CONFIGS / "forge" / "wording.yaml", Wording)
        dtype = pick_dtype(config.dtype, pick_device("cpu"))
        train = FeatureDataset(config.data, settings.mllm, wording, dtype)
        validation = FeatureDataset(config.validation, settings.mllm, wording, dtype) if config.validation else None
        mllm = build_mllm(settings.mllm, seed=config.seed)
        embeddings = mllm.model.get_input_embeddings().weight
        sample = torch.from_numpy(train.features[:: max(1, len(train) // 256)].copy()).float()
        mean, std = sample.mean((0, 1)), sample.std((0, 1)) + 1e-4
        torch.manual_seed(config.seed)
        projector = mllm.model.model.multi_modal_projector
        model = ProjectorWarmup(projector, embeddings.shape[1], mean, std, config.mixstyle_share())
        embedding_std = float(embeddings.detach().std())

        def save(folder: Path) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            weights = {name: value.contiguous() for name, value in model.folded(sample, embedding_std).items()}
            save_file(weights, folder / PROJECTOR_FILE)

        sets = {"data": config.data, "validation": config.validation}
        given = {name: sha256_file(folder / PICTURES) for name, folder in sets.items() if folder}
        given |= {"model.yaml": config_hash(settings.mllm), "wording.yaml": config_hash(wording)}
        return StageRun(model, train, validation, stack, save, given=given)


def stack(samples: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Samples of equal shapes as one batch."""
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def head_targets(picture: Mapping[str, Any], wording: Wording) -> list[int]:
    """Class of each head for one line of ``pictures.jsonl``; -100 where the head does not apply."""
    facts, artefacts, kind = picture["facts"], picture["artefacts"], Kind(picture["kind"])
    unchanged = dict.fromkeys(("light", "colour", "sharpness"), "same")
    changes = {**unchanged, **artefacts} if kind is Kind.BLEND else {}
    values: dict[str, int] = {
        "label": int(picture["label"] == "fake"),
        "kind": _KINDS.index(kind),
        "region": EDITABLE.index(picture["regions"][0]) if kind is Kind.LOCAL else _IGNORED,
        "operation": _OPERATIONS.index(artefacts["operation"]) if kind is Kind.LOCAL else _IGNORED,
        "edge": _choice(artefacts.get("edge"), ("narrow", "wide")),
        "extent": _choice(artefacts.get("extent"), ("forehead", "brows")),
        "light": _choice(changes.get("light"), ("same", "brighter", "darker")),
        "saturation": _choice(changes.get("colour"), ("same", "more saturated", "paler")),
        "blend_sharpness": _choice(changes.get("sharpness"), ("same", "softer", "sharper")),
        **{name: level(facts[name], getattr(wording.terciles, name)) for name in _TERCILES},
        "pose": 0 if abs(facts["yaw"]) < TURNED else 1 if facts["yaw"] < 0 else 2,
        "mouth": int(facts["mouth"] > OPEN_MOUTH),
        "grey": int(facts["saturation"] < GREY),
    }
    return [values[name] for name in HEADS]


def _choice(value: str | None, options: tuple[str, ...]) -> int:
    return _IGNORED if value is None else options.index(value)


def _patch_mask(folder: Path, picture: Mapping[str, Any], grid: int) -> np.ndarray:
    if picture["mask"] is None:
        return np.zeros(grid * grid, np.float32)
    mask = open_mask(inside(folder, picture["mask"]))
    return np.asarray(cv2.resize(mask, (grid, grid), interpolation=cv2.INTER_AREA), np.float32).ravel()
