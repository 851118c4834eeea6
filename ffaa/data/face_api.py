"""What the small networks of face-api.js (MIT) share: layers, and weights as bytes with a scale and an offset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ffaa.types import InputError

Arrays = Mapping[str, np.ndarray]

INPUT_SIDE = 112
"""Side in pixels of the crops that these networks take."""
MEAN_RGB = (122.782, 117.001, 104.298)
"""Taken from each pixel before it is divided by 255."""


def pad_same(x: Tensor, stride: int, value: float = 0.0) -> Tensor:
    """``x`` (..., height, width) padded for a 3 x 3 window as TensorFlow's "same": an odd pixel is right and below."""
    height, width = x.shape[-2:]
    down = max((-(-height // stride) - 1) * stride + 3 - height, 0)
    across = max((-(-width // stride) - 1) * stride + 3 - width, 0)
    return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2), value=value)


class SameConv(nn.Conv2d):
    """A 3 x 3 convolution padded by `pad_same`."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(pad_same(input, self.stride[0]))


class SeparableConv(nn.Sequential):
    """Depthwise 3 x 3, then pointwise 1 x 1 with bias."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__(
            SameConv(channels, channels, 3, stride, groups=channels, bias=False), nn.Conv2d(channels, width, 1)
        )


class CropNet(nn.Module):
    """A network on RGB crops (B, 3, 112, 112) with values 0..255, of which it takes a mean colour."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1), persistent=False)

    def normalized(self, crops: Tensor) -> Tensor:
        """The crops as the first layer takes them."""
        return (crops - self.mean) / 255


def crop_batch(crops: Iterable[Image.Image], device: torch.device) -> Tensor:
    """RGB crops of one size as float32 (B, 3, height, width) with values 0..255."""
    batch = torch.from_numpy(np.stack([np.asarray(crop) for crop in crops]))
    return batch.to(device, torch.float32).permute(0, 3, 1, 2)


def read_arrays(folder: Path, name: str) -> Arrays:
    """The arrays of ``<name>.bin``: value = byte * scale + min, or float32 where an entry is not quantised.

    Raises:
        InputError: a file is missing, or the file is shorter or longer than its manifest says.
    """
    file = folder / f"{name}.bin"
    try:
        manifest: list[dict[str, Any]] = json.loads((folder / f"{name}-weights_manifest.json").read_text())
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"a network's weights are missing: {error.filename}") from error
    arrays, offset = {}, 0
    for entry in manifest[0]["weights"]:
        coding = entry.get("quantization")
        count = int(np.prod(entry["shape"]))
        size = count * (1 if coding else 4)
        if offset + size <= len(data):
            values = np.frombuffer(data, np.uint8 if coding else np.dtype("<f4"), count, offset).reshape(entry["shape"])
            values = values.astype(np.float32)
            if coding:
                values = values * np.float32(coding["scale"]) + np.float32(coding["min"])
            arrays[entry["name"]] = values
        offset += size
    if offset != len(data):
        raise InputError(f"{file} has {len(data)} bytes, {offset} expected")
    return arrays


def convolution(arrays: Arrays, source: str, target: str) -> dict[str, Tensor]:
    """A convolution's parameters under the name of a `torch.nn.Conv2d`: (height, width, in, out) -> (out, in, ...)."""
    return {
        f"{target}.weight": _permuted(arrays[f"{source}/filters"], 3, 2, 0, 1),
        f"{target}.bias": torch.from_numpy(arrays[f"{source}/bias"]),
    }


def separable_convolution(arrays: Arrays, source: str, target: str) -> dict[str, Tensor]:
    """The same of a depthwise convolution ``<target>.0`` without bias, and a pointwise one ``<target>.1``."""
    return {
        f"{target}.0.weight": _permuted(arrays[f"{source}/depthwise_filter"], 2, 3, 0, 1),
        f"{target}.1.weight": _permuted(arrays[f"{source}/pointwise_filter"], 3, 2, 0, 1),
        f"{target}.1.bias": torch.from_numpy(arrays[f"{source}/bias"]),
    }


def linear(arrays: Arrays, source: str, target: str) -> dict[str, Tensor]:
    """The parameters of a `torch.nn.Linear`: (in, out) -> (out, in)."""
    return {
        f"{target}.weight": torch.from_numpy(arrays[f"{source}/weights"].T.copy()),
        f"{target}.bias": torch.from_numpy(arrays[f"{source}/bias"]),
    }


def _permuted(array: np.ndarray, *axes: int) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(axes)))
