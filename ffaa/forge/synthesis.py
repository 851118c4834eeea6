"""Entire-face synthesis: a DCGAN generator of 64-pixel faces (weights: asset ``dcgan_faces``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from ffaa.forge.faces import Pixels

LATENT = 100
_CHANNELS = (LATENT, 512, 256, 128, 64, 3)


class FaceGenerator(nn.Module):
    """DCGAN generator (Radford et al., 2016): latent (N, 100, 1, 1) -> pictures (N, 3, 64, 64) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (wide, narrow) in enumerate(zip(_CHANNELS, _CHANNELS[1:], strict=False)):
            stride, padding = (1, 0) if index == 0 else (2, 1)
            layers.append(nn.ConvTranspose2d(wide, narrow, 4, stride, padding, bias=False))
            if narrow != 3:
                layers += [nn.BatchNorm2d(narrow), nn.ReLU()]
        self.main = nn.Sequential(*layers, nn.Tanh())

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.main(latent)
        return out


def load_generator(folder: Path) -> FaceGenerator:
    """The generator with the weights of an asset folder (one safetensors file)."""
    generator = FaceGenerator().eval()
    generator.load_state_dict(load_file(next(folder.glob("*.safetensors"))))
    return generator


@torch.no_grad()
def synthesise(generator: FaceGenerator, seed: int, count: int) -> list[Pixels]:
    """``count`` RGB faces of 64 x 64 pixels, the same for the same seed."""
    latent = torch.randn(count, LATENT, 1, 1, generator=torch.Generator().manual_seed(seed))
    pictures = ((generator(latent) + 1) * 127.5).clamp(0, 255).byte()
    return [np.ascontiguousarray(picture) for picture in pictures.permute(0, 2, 3, 1).numpy()]
