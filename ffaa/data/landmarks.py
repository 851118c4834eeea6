"""The 68 points of a face (iBUG order) by a network of 357 kB that is committed beside this file.

The network and its weights are those of face-api.js, "FaceLandmark68Net" (MIT; see landmark_weights/LICENSE), read
from the original's uint8-quantised file: four blocks of separable convolutions on a 112 x 112 crop, then one linear
layer that gives 68 pairs of x and y as shares of the crop's side.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ffaa.data.faces import crop_box, crop_face, pixel_square
from ffaa.types import Box, InputError

WEIGHTS = Path(__file__).parent / "landmark_weights"
INPUT_SIDE = 112
MEAN_RGB = (122.782, 117.001, 104.298)
BLOCK_WIDTHS = (32, 64, 128, 256)

FIRST_MARGIN = 0.15
"""Margin of the first pass's crop around the detector's box, which often cuts the chin."""
SECOND_MARGIN = 0.25
"""Margin of the second pass's crop around the points that the first pass found."""

JAW = slice(0, 17)
BROWS = slice(17, 27)
NOSE = slice(27, 36)
EYES = slice(36, 48)
MOUTH = slice(48, 68)


class _SameConv(nn.Conv2d):
    """A 3 x 3 convolution padded as TensorFlow's "same": with stride 2 the odd pixel goes right and below."""

    def forward(self, input: Tensor) -> Tensor:
        height, width = input.shape[-2:]
        stride = self.stride[0]
        down = max((-(-height // stride) - 1) * stride + 3 - height, 0)
        across = max((-(-width // stride) - 1) * stride + 3 - width, 0)
        return super().forward(F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2)))


class _SeparableConv(nn.Sequential):
    """Depthwise 3 x 3, then pointwise 1 x 1 with bias."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__(
            _SameConv(channels, channels, 3, stride, groups=channels, bias=False), nn.Conv2d(channels, width, 1)
        )


class _DenseBlock(nn.Module):
    """Four convolutions; each is fed the rectified sum of all before it. The first halves the resolution."""

    def __init__(self, channels: int, width: int, plain_first: bool) -> None:
        super().__init__()
        first: nn.Module = _SameConv(channels, width, 3, 2) if plain_first else _SeparableConv(channels, width, 2)
        self.convs = nn.ModuleList([first, *(_SeparableConv(width, width, 1) for _ in range(3))])

    def forward(self, x: Tensor) -> Tensor:
        total = F.relu(self.convs[0](x))
        rectified = total
        for conv in self.convs[1:]:
            total = total + conv(rectified)
            rectified = F.relu(total)
        return rectified


class LandmarkNet(nn.Module):
    """RGB crops (B, 3, 112, 112) with values 0..255 -> points (B, 68, 2), x and y as shares of the crop's side."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        channels = (3, *BLOCK_WIDTHS)
        self.blocks = nn.Sequential(
            *(_DenseBlock(channels[i], width, plain_first=i == 0) for i, width in enumerate(BLOCK_WIDTHS))
        )
        self.head = nn.Linear(BLOCK_WIDTHS[-1], 136)
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        """Apply the network, shapes as above."""
        maps = self.blocks((crops - self.mean) / 255)
        pooled: Tensor = F.avg_pool2d(maps, 7).flatten(1)
        points: Tensor = self.head(pooled)
        return points.view(-1, 68, 2)


class Landmarker:
    """Finds the 68 points of faces whose boxes are known. Deterministic; one picture alone gives what a batch gives."""

    def __init__(self, device: str | torch.device = "cpu", weights: Path = WEIGHTS) -> None:
        self.device = torch.device(device)
        self.network = LandmarkNet().eval().requires_grad_(False)
        self.network.load_state_dict(_state_dict(_read_quantised(weights)))
        self.network.to(self.device)

    def points(self, image_rgb: np.ndarray, box: Box) -> np.ndarray:
        """Points of one face, float32 (68, 2), x and y in pixels of ``image_rgb`` (uint8 (H, W, 3)).

        The box is the detector's. Raises `InputError` for a box without area or outside the picture.
        """
        points: np.ndarray = self.points_batch([image_rgb], [box])[0]
        return points

    def points_batch(self, images_rgb: Sequence[np.ndarray], boxes: Sequence[Box]) -> np.ndarray:
        """As `points` for several faces, a picture and a box each: float32 (N, 68, 2)."""
        if not images_rgb:
            return np.zeros((0, 68, 2), dtype=np.float32)
        pictures = [Image.fromarray(image) for image in images_rgb]
        rough = self._pass(pictures, list(boxes), FIRST_MARGIN)
        return self._pass(pictures, [points_box(points) for points in rough], SECOND_MARGIN)

    def _pass(self, pictures: Sequence[Image.Image], boxes: Sequence[Box], margin: float) -> np.ndarray:
        squares = np.array([pixel_square(crop_box(box, margin)) for box in boxes], dtype=np.float32)
        crops = [crop_face(p, box, margin, INPUT_SIDE) for p, box in zip(pictures, boxes, strict=True)]
        batch = torch.from_numpy(np.stack([np.asarray(c) for c in crops])).to(self.device, torch.float32)
        with torch.inference_mode():
            shares = self.network(batch.permute(0, 3, 1, 2)).cpu().numpy()
        # Pixel centres stand at whole numbers, a crop's left edge half a pixel before its first one.
        points: np.ndarray = shares * squares[:, None, 2:] + squares[:, None, :2] - 0.5
        return points.astype(np.float32)


def points_box(points: np.ndarray) -> Box:
    """The rectangle around points (N, 2)."""
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return Box(left, top, right, bottom)


def _read_quantised(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a face-api.js weight file: value = byte * scale + min, one entry of the manifest an array."""
    name = "face_landmark_68_model"
    try:
        manifest: list[dict[str, Any]] = json.loads((folder / f"{name}-weights_manifest.json").read_text())
        data = (folder / f"{name}.bin").read_bytes()
    except OSError as error:
        raise InputError(f"the landmark network's weights are missing: {error.filename}") from error
    arrays, offset = {}, 0
    for entry in manifest[0]["weights"]:
        count = int(np.prod(entry["shape"]))
        quantised = np.frombuffer(data, np.uint8, count, offset).reshape(entry["shape"])
        arrays[entry["name"]] = quantised.astype(np.float32) * np.float32(entry["quantization"]["scale"])
        arrays[entry["name"]] += np.float32(entry["quantization"]["min"])
        offset += count
    if offset != len(data):
        raise InputError(f"{folder / name}.bin has {len(data)} bytes, {offset} expected")
    return arrays


def _state_dict(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """face-api.js names and layouts -> those of `LandmarkNet`."""
    state = {
        "head.weight": torch.from_numpy(arrays["fc/weights"].T.copy()),
        "head.bias": torch.from_numpy(arrays["fc/bias"]),
    }
    for block in range(len(BLOCK_WIDTHS)):
        for conv in range(4):
            source, target = f"dense{block}/conv{conv}", f"blocks.{block}.convs.{conv}"
            if f"{source}/filters" in arrays:  # height, width, in, out -> out, in, height, width
                state[f"{target}.weight"] = _permuted(arrays[f"{source}/filters"], 3, 2, 0, 1)
                state[f"{target}.bias"] = torch.from_numpy(arrays[f"{source}/bias"])
                continue
            state[f"{target}.0.weight"] = _permuted(arrays[f"{source}/depthwise_filter"], 2, 3, 0, 1)
            state[f"{target}.1.weight"] = _permuted(arrays[f"{source}/pointwise_filter"], 3, 2, 0, 1)
            state[f"{target}.1.bias"] = torch.from_numpy(arrays[f"{source}/bias"])
    return state


def _permuted(array: np.ndarray, *axes: int) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(axes)))
