"""What of the picture made MIDS decide: the decision as one number, differentiable in the vision tower's states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from ffaa.methods.ffaa.decision import CLASSES_OF_VERDICT
from ffaa.methods.ffaa.mids import Mids, MidsProcessor, VisionStream, resize_and_crop, visible_tokens
from ffaa.types import Box, InputError, Verdict

TARGETS = ("match", "class")


class MidsOnOneAnswer(nn.Module):
    """MIDS as a function of the picture alone, its answers held fixed: (1, 3, S, S) -> one's logits (1, 4) in fp32.

    The towers run once, without graph; only the head is differentiated, from its first projections on.
    """

    def __init__(self, model: Mids, inputs: Mapping[str, Tensor], chosen: int) -> None:
        super().__init__()
        self.model = model
        self.chosen = chosen
        with torch.no_grad():
            self.mask = visible_tokens(inputs["attention_mask"].flatten(0, 1))
            self.text = model.text_states(inputs["input_ids"].flatten(0, 1), self.mask)
            self.vision = [states.detach() for states in model.vision_states(inputs["pixel_values"])]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """``pixel_values`` are those given at construction, whose states are kept; grad-cam reads only their size."""
        leaves = [states.detach().requires_grad_(True) for states in self.vision]
        with torch.enable_grad():
            return self.model.head(leaves, self.text, self.mask)[:, self.chosen].float()


class MidsExplanation:
    """What a heat map needs of MIDS's decision (satisfies ``ffaa.methods.base.Explanation``)."""

    def __init__(
        self,
        model: Mids,
        processor: MidsProcessor,
        image: Image.Image,
        answers: Sequence[str],
        chosen: int,
        verdict: Verdict,
        target: str,
    ) -> None:
        parameter = next(model.parameters())
        if model.settings.padding_mask:  # else the padding up to the longest answer has a say in every logit
            answers, chosen = [answers[chosen]], 0
        inputs = {name: tensor.to(parameter.device) for name, tensor in processor([image], [answers]).items()}
        self.pixel_values = inputs["pixel_values"] = inputs["pixel_values"].to(parameter.dtype)
        self.module: nn.Module = MidsOnOneAnswer(model, inputs, chosen)
        streams = cast("list[VisionStream]", list(model.streams))
        self.layers: Mapping[str, nn.Module] = {
            f"layer{index}": stream.projector for index, stream in zip(model.layer_indices, streams, strict=True)
        }
        self.target: Callable[[Tensor], Tensor] = _target(verdict, target)
        self.shown = shown_part(image.width, image.height, model.settings.image_size)


def explain_decision(
    model: Mids,
    processor: MidsProcessor,
    image: Image.Image,
    answers: Sequence[str],
    verdict: Verdict,
    target: str = "match",
    *,
    chosen: int = 0,
) -> MidsExplanation:
    """Prepare heat maps of the decision for the chosen one of ``answers`` (as written, all that MIDS saw) on ``image``.

    ``target`` is ``match``: the logit whose sigmoid is the match score (l0 - l2 for real, l3 - l1 for fake; for an
    unparsed answer the log odds of fake, from which the score then comes), or ``class``: the published single logit
    (l0 or l3). Raises InputError for another target, or ``class`` on an unparsed answer.
    """
    return MidsExplanation(model, processor, image, answers, chosen, verdict, target)


def _target(verdict: Verdict, target: str) -> Callable[[Tensor], Tensor]:
    """A function of one row of logits (4,) that gives the number to explain."""
    if target not in TARGETS:
        raise InputError(f"the heat map's target is one of {', '.join(TARGETS)}, not {target!r}")
    if verdict not in CLASSES_OF_VERDICT:
        if target == "class":
            raise InputError("an unparsed answer has no class logit to explain")
        return lambda row: torch.logsumexp(row[2:], dim=0) - torch.logsumexp(row[:2], dim=0)
    right, wrong = CLASSES_OF_VERDICT[verdict]
    if target == "class":
        return lambda row: row[right]
    return lambda row: row[right] - row[wrong]


def shown_part(width: int, height: int, size: int) -> Box:
    """The part of a ``width`` x ``height`` picture that MIDS sees, in the picture's own pixels."""
    resized_width, resized_height, left, top = resize_and_crop(width, height, size)
    across, down = width / resized_width, height / resized_height
    return Box(left * across, top * down, (left + size) * across, (top + size) * down)
