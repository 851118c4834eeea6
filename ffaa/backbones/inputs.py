"""Pictures and prompts about them as the numbers that a model takes, whatever its processor and its placeholder.

Models of the LLaVA layout see one square view of a picture in a fixed number of tokens (``Mllm.pixel_values``). Others
tile a picture or take it at its own size, and their processors know what its placeholder then becomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature

from ffaa.backbones.mllm import Mllm

TOKEN_TYPES = ("mm_token_type_ids", "token_type_ids")
"""Names under which models take what each token stands for: 0 for text, 1 for a part of a picture."""
PLACES = ("image_grid_thw",)
"""What the positions of a picture's tokens depend on (Qwen's three axes), beside its features."""
_OF_TEXT = ("input_ids", "attention_mask", *TOKEN_TYPES)
_SHOWN = "text_replacement_offsets"


@dataclass(frozen=True)
class Inputs:
    """Some pictures, and prompts about each, before anything is padded."""

    ids: list[list[int]]
    """A row a prompt, those of one picture after another."""
    owners: list[int]
    """A row's picture."""
    pictures: dict[str, Tensor]
    """What ``get_image_features`` takes; each picture once."""
    token_types: dict[str, list[list[int]]] = field(default_factory=dict)
    """As ``ids``, by the one of ``TOKEN_TYPES`` that the model takes; empty where it takes none."""


def read_inputs(mllm: Mllm, images: Sequence[Image.Image], prompts: Sequence[Sequence[str]]) -> Inputs:
    """What a model is given of ``images[i]`` and the rendered ``prompts[i]``, at least one, each with its placeholder.

    A picture is prepared once, however many prompts it has.
    """
    owners = [picture for picture, row in enumerate(prompts) for _ in row]
    if mllm.one_view:
        ids = [mllm.prompt_ids(prompt) for row in prompts for prompt in row]
        return Inputs(ids, owners, {"pixel_values": mllm.pixel_values(images)})
    found = mllm.processor(
        images=[[image] for image in images], text=[row[0] for row in prompts], return_text_replacement_offsets=True
    )
    # What the placeholder became, so that the other prompts can be spelled out without the picture.
    shown = [(one["text"], one["replacement"]) for (one,) in found.pop(_SHOWN)]
    texts = [prompt.replace(*shown[picture]) for picture, row in enumerate(prompts) for prompt in row]
    ids = [list(row) for row in mllm.tokenizer(texts)["input_ids"]]
    taken = next((name for name in TOKEN_TYPES if name in found), None)
    pictures = BatchFeature({name: found[name] for name in found if name not in _OF_TEXT}, tensor_type="pt")
    return Inputs(
        ids,
        owners,
        {name: torch.as_tensor(value) for name, value in pictures.items()},
        {taken: mllm.processor.create_mm_token_type_ids(ids)} if taken else {},
    )


def features_of_rows(mllm: Mllm, inputs: Inputs) -> dict[str, object]:
    """Each picture encoded once, its features given to each of its rows: the keywords of ``generate`` for them.

    ``inputs.pictures`` lie on the model's device.
    """
    encoded = mllm.model.get_image_features(**inputs.pictures)
    firsts = [inputs.owners.index(picture) for picture in dict.fromkeys(inputs.owners)]
    counts = [inputs.ids[row].count(mllm.image_token_id) for row in firsts]

    def of_rows(features: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        # Some give a tensor a picture, some one of (pictures or tiles, tokens, width).
        flat = torch.cat([one.reshape(-1, one.shape[-1]) for one in features])
        of_pictures = flat.split(counts)
        rows = [of_pictures[owner] for owner in inputs.owners]
        return torch.cat(rows) if isinstance(features, Tensor) else rows

    encoded.pooler_output = of_rows(encoded.pooler_output)
    if deeper := encoded.get("deepstack_features"):  # of Qwen3-VL, for layers within its language model
        encoded["deepstack_features"] = [of_rows(features) for features in deeper]
    owners = torch.tensor(inputs.owners, device=mllm.model.device)
    places = {name: inputs.pictures[name][owners] for name in PLACES if name in inputs.pictures}
    return {"mm_encoder_outputs": {"image": encoded}, **places}
