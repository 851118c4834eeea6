"""MIDS, the multi-answer selector of FFAA (arXiv 2408.10072): how well does each answer fit the picture?

Architecture as published, with these repairs: text padding is never attended to, frozen parts stay in eval mode and out
of the graph, pretrained layers are not re-initialised, pictures are RGB, any number of answers. The old ways that
published weights may depend on are options of ``MidsConfig``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from ffaa.backbones.adapter import check_tensors
from ffaa.backbones.text import load_text_encoder, max_positions, text_width
from ffaa.backbones.vision import CLIP_MEAN, CLIP_STD, load_vision_tower
from ffaa.config import load_yaml
from ffaa.dialogue import answers as answer_texts
from ffaa.methods.ffaa.mids_blocks import SelfBlock, VisionStream
from ffaa.runtime import atomic_write_text
from ffaa.types import InputError

CLASSES = 4
IGNORED_LABEL = -1


@dataclass(frozen=True)
class MidsConfig:
    """Sizes, towers and options of MIDS; the defaults are the published ones (T5-base, CLIP ViT-L/14-336)."""

    vision: str | Mapping[str, Any] = "openai/clip-vit-large-patch14-336"
    """Vision tower: asset name, Hugging Face id or folder, or a mapping of CLIPVisionConfig values (random weights)."""
    text: str | Mapping[str, Any] = "t5-base"
    """Text encoder: asset name, Hugging Face id or folder, or a mapping of configuration values (random weights)."""
    hidden_dim: int = 768
    """Width of the fusion blocks; equals the width of the text encoder, whose states are used as they are."""
    heads: int = 8
    """Attention heads of every block."""
    image_size: int = 336
    """Side in pixels of the square that the vision tower reads."""
    vision_layers: tuple[int, ...] = (-1, -2)
    """Which hidden states of the tower are read, one stream each (0 = embeddings, -1 = last layer)."""
    unfreeze_last: int = 2
    """How many of the tower's last layers (counted down from the highest one read) are trained."""
    max_text_tokens: int = 512
    """Answers are cut to this many tokens."""
    mask_answers: bool = True
    """Show MIDS only description and reasoning of an answer, not its verdict."""
    num_answers: int = 3
    """Answers per picture in training."""
    padding_mask: bool = True
    """Keep padded text positions out of all attention; False is the published way."""
    normalize_vision: bool = False
    """LayerNorm on the tower's states before they are projected."""
    instance_norm: bool = False
    """Take out of the tower's states what is alike all over the picture, before ``normalize_vision``."""
    reinit_unfrozen: bool = False
    """Re-initialise the Linear layers of the unfrozen vision layers, as the published training did."""
    channel_order: str = "rgb"
    """``rgb``, or ``bgr`` for weights that were trained on swapped channels."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "vision_layers", tuple(self.vision_layers))
        if self.channel_order not in ("rgb", "bgr"):
            raise InputError(f"channel_order is rgb or bgr, not {self.channel_order!r}")
        if self.hidden_dim <= 0 or self.heads <= 0 or self.hidden_dim % self.heads:
            raise InputError(f"hidden_dim {self.hidden_dim} is not a multiple of heads {self.heads}")
        if not self.vision_layers:
            raise InputError("vision_layers names no layer")
        for name in ("image_size", "max_text_tokens", "num_answers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass
class MidsOutput(ModelOutput):
    """``logits`` (B, A, 4); ``loss`` is the mean cross-entropy over labelled rows, None without labels."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class Mids(nn.Module):
    """Scores A answers to each of B pictures with four logits each (classes: see ``ffaa.methods.ffaa.decision``)."""

    def __init__(self, config: MidsConfig) -> None:
        super().__init__()
        # Not `config`: transformers' Trainer writes into an attribute of that name.
        self.settings = config
        self.image_encoder = load_vision_tower(config.vision, config.image_size)
        self.text_encoder, self.tokenizer = load_text_encoder(config.text)
        self._check(config)
        vision_width = self.image_encoder.config.hidden_size
        depth = len(self.image_encoder.encoder.layers)
        self.layer_indices = [layer if layer >= 0 else depth + 1 + layer for layer in config.vision_layers]
        if not all(0 <= layer <= depth for layer in self.layer_indices):
            raise InputError(f"vision_layers {config.vision_layers} of a tower with {depth} layers")
        self.top_layer = max(self.layer_indices)
        self.first_unfrozen = max(0, self.top_layer - max(0, config.unfreeze_last))
        width, heads = config.hidden_dim, config.heads
        self.streams = nn.ModuleList(
            VisionStream(vision_width, width, heads, config.normalize_vision, config.instance_norm)
            for _ in config.vision_layers
        )
        self.self_blocks = nn.ModuleList(SelfBlock(width, heads) for _ in range(3))
        self.classifier = nn.Linear(3 * len(config.vision_layers) * width, CLASSES)
        self.freeze()

    def _check(self, config: MidsConfig) -> None:
        width, limit = text_width(self.text_encoder), max_positions(self.text_encoder)
        if width != config.hidden_dim:
            raise InputError(f"hidden_dim {config.hidden_dim} differs from the text encoder's width {width}")
        if limit is not None and config.max_text_tokens > limit:
            raise InputError(f"max_text_tokens {config.max_text_tokens} exceeds the text encoder's {limit} positions")

    @property
    def unfrozen_layers(self) -> list[nn.Module]:
        """The layers of the vision tower that are trained."""
        return list(self.image_encoder.encoder.layers[self.first_unfrozen : self.top_layer])

    def new_modules(self) -> list[nn.Module]:
        """What MIDS adds to its two towers: the head."""
        return [self.streams, self.self_blocks, self.classifier]

    def freeze(self) -> None:
        """Let only the head and the unfrozen vision layers be trained."""
        self.requires_grad_(False)
        for module in (*self.new_modules(), *self.unfrozen_layers):
            module.requires_grad_(True)

    def cast_frozen(self, dtype: torch.dtype) -> Mids:
        """Hold the frozen parts as ``dtype`` (bf16 spares autocast its casts); gives ``self``."""
        frozen = self.image_encoder.encoder.layers[: self.first_unfrozen]
        for module in (self.text_encoder, self.image_encoder.embeddings, self.image_encoder.pre_layrnorm, frozen):
            module.to(dtype)
        return self

    def trainable_state(self) -> dict[str, Tensor]:
        """Name -> tensor of all that is trained and saved, whatever ``requires_grad`` says now."""
        kept = {id(p) for module in (*self.new_modules(), *self.unfrozen_layers) for p in module.parameters()}
        return {name: parameter.detach() for name, parameter in self.named_parameters() if id(parameter) in kept}

    def train(self, mode: bool = True) -> Mids:
        """Training mode for what is trained; the frozen towers stay in eval mode (no dropout on frozen features)."""
        super().train(mode)
        self.text_encoder.eval()
        self.image_encoder.eval()
        for layer in self.unfrozen_layers:
            layer.train(mode)
        return self

    @property
    def frozen_layers(self) -> list[int]:
        """The hidden states that frozen layers give: those read, and the one that the unfrozen layers start from."""
        return sorted({index for index in self.layer_indices if index < self.first_unfrozen} | {self.first_unfrozen})

    def frozen_states(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, len(frozen_layers), 1 + patches, vision width), without graph."""
        tower = self.image_encoder
        with torch.no_grad():
            states = [tower.pre_layrnorm(tower.embeddings(pixel_values))]
            for layer in tower.encoder.layers[: self.first_unfrozen]:
                states.append(layer(states[-1].to(layer.layer_norm1.weight.dtype), None))
            return torch.stack([states[index] for index in self.frozen_layers], dim=1)

    def vision_states(self, pixel_values: Tensor, frozen: Tensor | None = None) -> list[Tensor]:
        """(B, 3, S, S) -> one (B, 1 + patches, vision width) per configured layer; ``frozen``: as ``frozen_states``."""
        found = self.frozen_states(pixel_values) if frozen is None else frozen
        states = dict(zip(self.frozen_layers, found.unbind(1), strict=True))
        hidden = states[self.first_unfrozen]
        for index in range(self.first_unfrozen + 1, self.top_layer + 1):
            layer = self.image_encoder.encoder.layers[index - 1]
            hidden = layer(hidden.to(layer.layer_norm1.weight.dtype), None)
            states[index] = hidden
        return [states[index].to(self.classifier.weight.dtype) for index in self.layer_indices]

    def encoded_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(N, L), (N, L) -> (N, L, D), without graph, as the text encoder gives them."""
        with torch.no_grad():
            output = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        return cast(Tensor, output.last_hidden_state)

    def text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """``encoded_texts`` in the head's precision."""
        return self.encoded_texts(input_ids, attention_mask).to(self.classifier.weight.dtype)

    def head(self, vision: list[Tensor], text: Tensor, attention_mask: Tensor) -> Tensor:
        """States of B pictures and of B * A answers (``attention_mask`` (B * A, L)) -> logits (B, A, 4)."""
        batch = vision[0].shape[0]
        mask = attention_mask.bool() if self.settings.padding_mask else None
        tokens = torch.cat([stream(v, text, mask) for stream, v in zip(self.streams, vision, strict=True)], dim=1)
        for block in self.self_blocks:
            tokens = block(tokens)
        return cast(Tensor, self.classifier(tokens.flatten(1))).unflatten(0, (batch, -1))

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None = None,
        frozen: Tensor | None = None,
        text: Tensor | None = None,
    ) -> MidsOutput:
        """Pictures (B, 3, S, S), answers (B, A, L) with their mask, labels (B, A) in 0..3 or -1 (ignored).

        ``frozen`` (``frozen_states``) and ``text`` (``encoded_texts``), where they are known, are not computed again.
        """
        ids, mask = input_ids.flatten(0, 1), visible_tokens(attention_mask.flatten(0, 1))
        states = self.text_states(ids, mask) if text is None else text.to(self.classifier.weight.dtype)
        logits = self.head(self.vision_states(pixel_values, frozen), states, mask)
        loss = None
        if labels is not None:
            rows, targets = logits.float().flatten(0, 1), labels.flatten()
            total = nn.functional.cross_entropy(rows, targets, ignore_index=IGNORED_LABEL, reduction="sum")
            loss = total / (targets != IGNORED_LABEL).sum().clamp(min=1)
        return MidsOutput(loss=loss, logits=logits)


def visible_tokens(attention_mask: Tensor) -> Tensor:
    """The mask (N, L), the first position made visible in rows of padding only: attention over nothing is NaN."""
    mask = attention_mask.clone()
    mask[:, 0] = torch.where(mask.any(dim=1), mask[:, 0], torch.ones_like(mask[:, 0]))
    return mask


def initialise(model: Mids, seed: int) -> None:
    """Fill what is new, from ``seed``: xavier-normal weights and zero biases of Linears, normal learned queries.

    The towers are left as they were loaded, except the unfrozen vision layers' Linears under ``reinit_unfrozen``.
    """
    fresh = model.new_modules() + (model.unfrozen_layers if model.settings.reinit_unfrozen else [])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for linear in (m for module in fresh for m in module.modules() if isinstance(m, nn.Linear)):
            nn.init.xavier_normal_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
        for stream in cast("list[VisionStream]", list(model.streams)):
            stream.text_query.normal_(generator=generator)
            stream.image_query.normal_(generator=generator)


def build_mids(
    config: MidsConfig,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Mids:
    """An untrained MIDS on its loaded towers, the head drawn from ``seed``, in eval mode.

    On the device ``meta`` the towers must be mappings: shapes and counts only. Raises InputError when a tower cannot be
    had or the sizes do not fit one another.
    """
    device = torch.device(device)
    if device.type == "meta":
        if isinstance(config.vision, str) or isinstance(config.text, str):
            raise InputError("on the meta device the towers are mappings of configuration values")
        with device:
            return Mids(config).to(dtype).eval()
    model = Mids(config)
    initialise(model, seed)
    return model.to(device=device, dtype=dtype).eval()


CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def save_mids(model: Mids, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write ``config.json`` and ``model.safetensors`` (all that is trained, as ``dtype``) into ``folder``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.to("cpu", dtype).contiguous() for name, tensor in model.trainable_state().items()}
    partial = folder / (WEIGHTS_FILE + ".partial")
    save_file(state, partial, metadata={"format": "pt"})
    partial.replace(folder / WEIGHTS_FILE)
    atomic_write_text(folder / CONFIG_FILE, json.dumps(asdict(model.settings), indent=2, sort_keys=True) + "\n")


def load_mids(folder: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Mids:
    """The MIDS saved in ``folder`` on freshly loaded towers, in eval mode.

    Strict: InputError names missing, unexpected or misshapen tensors, unknown configuration keys, or absent files.
    """
    folder = Path(folder)
    model = Mids(read_config(folder))
    try:
        stored = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read {folder / WEIGHTS_FILE}: {error}") from error
    wanted = model.trainable_state()
    check_tensors(wanted, stored, folder / WEIGHTS_FILE)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(stored[name])
    return model.to(device=torch.device(device), dtype=dtype).eval()


def read_config(folder: Path) -> MidsConfig:
    """The ``MidsConfig`` stored in a MIDS checkpoint; InputError when it is absent, broken or no such configuration."""
    try:
        return load_yaml(Path(folder) / CONFIG_FILE, MidsConfig)  # JSON is YAML
    except InputError as error:
        raise InputError(f"cannot read {error}") from error


def resize_and_crop(width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """Geometry of CLIP's preprocessing: (resized width, resized height, left, top) of the centred ``size`` square.

    The shorter side becomes ``size``, the longer one is scaled alike and cut.
    """
    short = min(width, height)
    resized_width, resized_height = size * width // short, size * height // short
    return resized_width, resized_height, (resized_width - size) // 2, (resized_height - size) // 2


_LONGEST = 16
"""Sides as 1 to so many, beyond which a picture is cut before it is resized."""


def _middle(image: Image.Image) -> Image.Image:
    """The middle of a thin picture, three times as long as it is wide."""
    side = min(image.size)
    width, height = (min(length, 3 * side) for length in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


class MidsProcessor:
    """Turns upright RGB pictures and answer texts into the tensors that ``Mids.forward`` takes."""

    def __init__(self, config: MidsConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self.config = config
        self.tokenizer = tokenizer

    def image(self, image: Image.Image) -> Tensor:
        """One picture -> (3, S, S) float32: shortest side bicubic, centre crop, CLIP mean and standard deviation."""
        size = self.config.image_size
        if max(image.size) > _LONGEST * min(image.size):
            # A picture as thin as a thread would grow to gigabytes: of it, only about what is kept is resized.
            image = _middle(image)
        width, height, left, top = resize_and_crop(image.width, image.height, size)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float32) / 255
        if self.config.channel_order == "bgr":
            pixels = pixels[..., ::-1]
        normalised = (pixels - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))

    def mask(self, mask: NDArray[np.float32], patches: int) -> Tensor:
        """A mask (H, W) in 0..1 -> the marked share of each patch of what ``image`` shows, (patches^2,) row by row."""
        size = self.config.image_size
        width, height, left, top = resize_and_crop(mask.shape[1], mask.shape[0], size)
        resized = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)[top : top + size, left : left + size]
        return torch.from_numpy(cv2.resize(resized, (patches, patches), interpolation=cv2.INTER_AREA).ravel())

    def shown_text(self, answer: str) -> str:
        """What MIDS reads of an answer: all of it, or description and reasoning only (``mask_answers``)."""
        return answer_texts.mask(answer) if self.config.mask_answers else answer

    def texts(self, answers: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """B pictures' A answers each -> token ids and mask, both (B, A, L), cut to ``max_text_tokens``.

        Raises InputError when the pictures have different numbers of answers.
        """
        counts = {len(row) for row in answers}
        if len(counts) != 1 or 0 in counts:
            raise InputError(f"every picture of a batch needs the same number of answers, got {sorted(counts)}")
        encoded = self.tokenizer(
            [self.shown_text(answer) for row in answers for answer in row],
            padding="longest",
            truncation=True,
            max_length=self.config.max_text_tokens,
            return_tensors="pt",
        )
        shape = (len(answers), counts.pop())
        ids, mask = cast(Tensor, encoded["input_ids"]), cast(Tensor, encoded["attention_mask"])
        return ids.unflatten(0, shape), mask.unflatten(0, shape)

    def __call__(self, images: Sequence[Image.Image], answers: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """``pixel_values`` (B, 3, S, S), ``input_ids`` and ``attention_mask`` (B, A, L)."""
        input_ids, attention_mask = self.texts(answers)
        pixel_values = torch.stack([self.image(image) for image in images])
        return {"pixel_values": pixel_values, "input_ids": input_ids, "attention_mask": attention_mask}
