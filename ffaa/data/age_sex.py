"""Age and sex as a network of 430 kB reads them off a face: for errors by group, not for anybody's record.

The network and its weights are those of face-api.js, "AgeGenderNet" (MIT; see age_sex_weights/LICENSE): a small
Xception on a 112 x 112 crop, then one linear layer each for the age and for two classes. What it says of one face is
often wrong; means over groups of pictures are what it is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    pad_same,
    read_arrays,
    separable_convolution,
)
from ffaa.data.faces import crop_face
from ffaa.data.landmarks import MOUTH
from ffaa.types import Box

WEIGHTS = Path(__file__).parent / "age_sex_weights"
WEIGHT_FILE = "age_gender_model"

EYE_TO_MOUTH = 0.45
"""Distance from the eyes to the mouth as a share of the crop's side, by which face-api.js cuts faces out."""
CENTRE_HEIGHT = 0.43
"""Where in the crop, from above, the mean of eyes and mouth lies."""


@dataclass(frozen=True)
class AgeSex:
    """Estimates of one face: ``age`` in years, ``male`` the probability of that of the two classes it knows."""

    age: float
    male: float


class _ReductionBlock(nn.Module):
    """Two separable convolutions and a max pool, beside a strided 1 x 1 convolution. Halves the resolution."""

    def __init__(self, channels: int, width: int, rectified: bool = True) -> None:
        super().__init__()
        self.rectified = rectified
        self.convs = nn.ModuleList([SeparableConv(channels, width), SeparableConv(width, width)])
        self.expansion = nn.Conv2d(channels, width, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs[0](F.relu(x) if self.rectified else x)
        y = self.convs[1](F.relu(y))
        pooled: Tensor = F.max_pool2d(pad_same(y, 2, float("-inf")), 3, stride=2)
        return pooled + self.expansion(x)


class _MainBlock(nn.Module):
    """Three separable convolutions with a residual path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([SeparableConv(channels, channels) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.convs:
            y = conv(F.relu(y))
        return y + x


class AgeSexNet(CropNet):
    """RGB crops (B, 3, 112, 112) with values 0..255 -> ages (B,) in years and P(male) (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SameConv(3, 32, 3, 2)
        self.blocks = nn.Sequential(
            _ReductionBlock(32, 64, rectified=False),
            _ReductionBlock(64, 128),
            _MainBlock(128),
            _MainBlock(128),
            _ReductionBlock(128, 256),
        )
        self.last = SeparableConv(256, 512)
        self.age = nn.Linear(512, 1)
        self.sex = nn.Linear(512, 2)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the network, shapes as above."""
        maps = F.relu(self.first(self.normalized(crops)))
        maps = F.relu(self.last(self.blocks(maps)))
        pooled = F.avg_pool2d(maps, 7).flatten(1)
        return self.age(pooled)[:, 0], self.sex(pooled).softmax(dim=-1)[:, 0]


class AgeSexEstimator:
    """Estimates of faces whose 68 points are known. Deterministic."""

    def __init__(self, device: str | torch.device = "cpu", weights: Path = WEIGHTS) -> None:
        self.device = torch.device(device)
        self.network = AgeSexNet().eval().requires_grad_(False)
        self.network.load_state_dict(_state_dict(read_arrays(weights, WEIGHT_FILE)))
        self.network.to(self.device)

    def estimate(self, pictures: Sequence[Image.Image], points: Sequence[np.ndarray]) -> list[AgeSex]:
        """One estimate for each RGB picture and the points (68, 2) of its face, in its pixels.

        Raises `InputError` for points that lie outside the picture or on one spot.
        """
        if not pictures:
            return []
        crops = [aligned_crop(*face) for face in zip(pictures, points, strict=True)]
        with torch.inference_mode():
            ages, males = self.network(crop_batch(crops, self.device))
        return [AgeSex(age, male) for age, male in zip(ages.tolist(), males.tolist(), strict=True)]


def aligned_crop(picture: Image.Image, points: np.ndarray) -> Image.Image:
    """The square that the network is given, by eyes and mouth, ``INPUT_SIDE`` pixels wide; the face is not turned."""
    eyes, mouth = (points[36:42].mean(axis=0), points[42:48].mean(axis=0)), points[MOUTH].mean(axis=0)
    side = float(np.mean([np.linalg.norm(mouth - eye) for eye in eyes])) / EYE_TO_MOUTH
    x, y = np.mean([*eyes, mouth], axis=0).tolist()
    left, top = x - side / 2, y - CENTRE_HEIGHT * side
    return crop_face(picture, Box(left, top, left + side, top + side), 0.0, INPUT_SIDE)


def _state_dict(arrays: Arrays) -> dict[str, Tensor]:
    """face-api.js names and layouts -> those of `AgeSexNet`."""
    state = convolution(arrays, "entry_flow/conv_in", "first")
    blocks = {
        "entry_flow/reduction_block_0": 2,
        "entry_flow/reduction_block_1": 2,
        "middle_flow/main_block_0": 3,
        "middle_flow/main_block_1": 3,
        "exit_flow/reduction_block": 2,
    }
    for index, (source, convs) in enumerate(blocks.items()):
        for conv in range(convs):
            state |= separable_convolution(arrays, f"{source}/separable_conv{conv}", f"blocks.{index}.convs.{conv}")
        if f"{source}/expansion_conv/filters" in arrays:
            state |= convolution(arrays, f"{source}/expansion_conv", f"blocks.{index}.expansion")
    state |= separable_convolution(arrays, "exit_flow/separable_conv", "last")
    return state | linear(arrays, "fc/age", "age") | linear(arrays, "fc/gender", "sex")
