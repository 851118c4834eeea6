"""The way back from this project's names of the selector's tensors to the published ones, for tests."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_BLOCKS = {
    "text_reads_image": "cr_tii{}", "image_reads_text": "cr_itt{}", "text_pool": "cr_tii{}_lr",
    "image_pool": "cr_itt{}_lr",
}  # fmt: skip


def to_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``mids.pth`` of these tensors: queries, keys and values joined, the prefix of a wrapped model before all."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[0] == "image_encoder":
            found["image_encoder.vision_model." + name.removeprefix("image_encoder.")] = tensor
        elif parts[0] == "classifier":
            found[name] = tensor
        elif parts[0] == "streams":
            layer = str(int(parts[1]) + 1)
            plain = {"projector": f"projector_layer{layer}", "class_projector": f"cls_token_layer{layer}"}
            query = {"text_query": f"fusion_block.lr_tii{layer}", "image_query": f"fusion_block.lr_itt{layer}"}
            if parts[2] in plain:
                found[f"{plain[parts[2]]}.{parts[3]}"] = tensor
            elif parts[2] in query:
                found[query[parts[2]]] = tensor
            else:
                _block(found, f"fusion_block.{_BLOCKS[parts[2]].format(layer)}", parts[3:], tensor)
        else:
            _block(found, f"se_attn.{parts[1]}", parts[2:], tensor)
    return {f"module.{name}": tensor for name, tensor in found.items()}


def _block(found: dict[str, Tensor], block: str, rest: list[str], tensor: Tensor) -> None:
    if rest[0] == "norm":
        found[f"{block}.norm.{rest[1]}"] = tensor
    elif rest[1] == "out":
        found[f"{block}.cross_attn.out_proj.{rest[2]}"] = tensor
    else:  # query, key and value come in this order
        joint = f"{block}.cross_attn.in_proj_{rest[2]}"
        found[joint] = torch.cat([found[joint], tensor]) if joint in found else tensor
