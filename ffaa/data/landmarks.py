"""The 68 points of a face (iBUG order) by a network of 357 kB that is committed beside this file.

The network and its weights are those of face-api.js, "FaceLandmark68Net" (MIT; see landmark_weights/LICENSE), read
from the original's uint8-quantised file: four blocks of separable convolutions on a 112 x 112 crop, then one linear
layer that gives 68 pairs of x and y as shares of the crop's side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ffaa.data.face_api import (
    INPUT_SIDE,
    Arrays,
    CropNet,
    SameConv,
    SeparableConv,
    convolution,
    crop_batch,
    linear,
    read_arrays,
    separable_convolution,
)
from ffaa.data.faces import crop_box, crop_face, pixel_square
from ffaa.types import Box

WEIGHTS = Path(__file__).parent / "landmark_weights"
WEIGHT_FILE = "face_landmark_68_model"
BLOCK_WIDTHS = (32, 64, 128, 256)

FIRST_MARGIN = 0.15
"""Margin of the first pass's crop around the detector's box, which often cuts the chin."""
SECOND_MARGIN = 0.25
"""Margin of the second pass's crop around the points that the first pass found."""

MOUTH = slice(48, 68)


class _DenseBlock(nn.Module):
    """Four convolutions; each is fed the rectified sum of all before it. The first halves the resolution."""

    def __init__(self, channels: int, width: int, plain_first: bool) -> None:
        super().__init__()
        first: nn.Module = SameConv(channels, width, 3, 2) if plain_first else SeparableConv(channels, width, 2)
        self.convs = nn.ModuleList([first, *(SeparableConv(width, width, 1) for _ in range(3))])

    def forward(self, x: Tensor) -> Tensor:
        total = F.relu(self.convs[0](x))
        rectified = total
        for conv in self.convs[1:]:
            total = total + conv(rectified)
            rectified = F.relu(total)
        return rectified


class LandmarkNet(CropNet):
    """RGB crops (B, 3, 112, 112) with values 0..255 -> points (B, 68, 2), x and y as shares of the crop's side."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, *BLOCK_WIDTHS)
        self.blocks = nn.Sequential(
            *(_DenseBlock(channels[i], width, plain_first=i == 0) for i, width in enumerate(BLOCK_WIDTHS))
        )
        self.head = nn.Linear(BLOCK_WIDTHS[-1], 136)

    def forward(self, crops: Tensor) -> Tensor:
        """Apply the network, shapes as above."""
        maps = self.blocks(self.normalized(crops))
        pooled: Tensor = F.avg_pool2d(maps, 7).flatten(1)
        points: Tensor = self.head(pooled)
        return points.view(-1, 68, 2)


class Landmarker:
    """Finds the 68 points of faces whose boxes are known. Deterministic; one picture alone gives what a batch gives."""

    def __init__(self, device: str | torch.device = "cpu", weights: Path = WEIGHTS) -> None:
        self.device = torch.device(device)
        self.network = LandmarkNet().eval().requires_grad_(False)
        self.network.load_state_dict(_state_dict(read_arrays(weights, WEIGHT_FILE)))
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
        with torch.inference_mode():
            shares = self.network(crop_batch(crops, self.device)).cpu().numpy()
        # Pixel centres stand at whole numbers, a crop's left edge half a pixel before its first one.
        points: np.ndarray = shares * squares[:, None, 2:] + squares[:, None, :2] - 0.5
        return points.astype(np.float32)


def points_box(points: np.ndarray) -> Box:
    """The rectangle around points (N, 2)."""
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return Box(left, top, right, bottom)


def _state_dict(arrays: Arrays) -> dict[str, Tensor]:
    """face-api.js names and layouts -> those of `LandmarkNet`."""
    state = linear(arrays, "fc", "head")
    for block in range(len(BLOCK_WIDTHS)):
        for conv in range(4):
            source, target = f"dense{block}/conv{conv}", f"blocks.{block}.convs.{conv}"
            plain = f"{source}/filters" in arrays
            state |= (convolution if plain else separable_convolution)(arrays, source, target)
    return state
