"""Where an image-text model of transformers keeps its vision tower, its projector and its language model.

transformers has names for all three, but not one set of names. This table is the only place that knows of the
difference; it goes by what a model holds and not by its type, so that a relative of one of these is known too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ffaa.types import InputError


@dataclass(frozen=True)
class Parts:
    """Names of modules in the ``model`` of an image-text model."""

    vision: str
    projector: str
    """Between the two; the last of the vision tower where it lies in it."""
    language: str


LAYOUTS = (
    # LLaVA, LLaVA-NeXT, LLaVA-OneVision, Gemma 3, InternVL, Mistral 3, Aya Vision, PaliGemma
    Parts(vision="vision_tower", projector="multi_modal_projector", language="language_model"),
    # Qwen2-VL, Qwen2.5-VL, Qwen3-VL, GLM-4V
    Parts(vision="visual", projector="visual.merger", language="language_model"),
    # Idefics2, Idefics3, SmolVLM
    Parts(vision="vision_model", projector="connector", language="text_model"),
)
"""The first layout all of whose modules a model has is its own."""


def parts_of(model: PreTrainedModel) -> Parts:
    """The layout of a model, adapted or not.

    Raises:
        InputError: none of those that are known.
    """
    held = getattr(model, "model", model)
    for layout in LAYOUTS:
        if all(_module(held, name) is not None for name in (layout.vision, layout.projector, layout.language)):
            return layout
    found = ", ".join(name for name, _ in held.named_children()) or "nothing"
    raise InputError(
        f"it is not known which part of a {model.config.model_type} is its language model and which its projector: it "
        f"holds {found} (LAYOUTS in ffaa/backbones/parts.py)"
    )


def projector_of(model: PreTrainedModel) -> Any:
    """The projector's module; once adapted, peft's wrapper of it. Raises InputError as `parts_of`."""
    return _module(getattr(model, "model", model), parts_of(model).projector)


def language_model_of(model: PreTrainedModel) -> Any:
    """The language model's module, without its head. Raises InputError as `parts_of`."""
    return _module(getattr(model, "model", model), parts_of(model).language)


def _module(held: nn.Module, name: str) -> nn.Module | None:
    for step in name.split("."):
        child = getattr(held, step, None)
        if not isinstance(child, nn.Module):
            return None
        held = child
    return held
