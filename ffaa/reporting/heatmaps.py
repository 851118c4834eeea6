"""Grad-CAM heat maps (arXiv 1610.02391) of a method's decision, on the picture's own pixels.

Computed with the ``grad-cam`` library. The module knows no method: what to differentiate is an ``Explanation``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from torch import Tensor, nn

from ffaa.methods.base import Explanation
from ffaa.types import Box, InputError

HeatMap = NDArray[np.float32]


class PatchGradCAM(GradCAM):
    """Grad-CAM whose eigen-smoothing has a sign: a principal axis alone could as well give the inverted map."""

    def get_cam_image(
        self,
        input_tensor: Tensor,
        target_layer: nn.Module,
        targets: list[Any],
        activations: NDArray[np.float32],
        grads: NDArray[np.float32],
        eigen_smooth: bool = False,
    ) -> NDArray[np.float32]:
        plain = super().get_cam_image(input_tensor, target_layer, targets, activations, grads, eigen_smooth=False)
        if not eigen_smooth:
            return np.asarray(plain, np.float32)
        weights = self.get_cam_weights(input_tensor, target_layer, targets, activations, grads)
        smooth = first_component(weights[:, :, None, None] * activations)
        centred = plain - plain.mean(axis=(1, 2), keepdims=True)
        agreement = (smooth * centred).sum(axis=(1, 2), keepdims=True)
        return np.asarray(np.where(agreement < 0, -smooth, smooth), np.float32)


def first_component(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """(B, C, n, n) -> (B, n, n): places projected on the first principal axis of their C values, sign arbitrary.

    The library's own projection, by the Gram matrix of the n * n places instead of a full SVD over channels, which took
    most of a heat map's time.
    """
    points = maps.reshape(*maps.shape[:2], -1).swapaxes(1, 2).astype(np.float64)
    points = points - points.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(points @ points.swapaxes(1, 2))
    projections = vectors[..., -1] * np.sqrt(np.maximum(values[:, -1:], 0))
    return projections.reshape(maps.shape[0], *maps.shape[2:])


def patch_grid(states: Tensor) -> Tensor:
    """(1, 1 + n * n, C) token states -> (1, C, n, n) fp32, the class token dropped."""
    patches = states[:, 1:].float()
    side = math.isqrt(patches.shape[1])
    return patches.transpose(1, 2).unflatten(2, (side, side))


def heat_maps(explanation: Explanation, size: tuple[int, int], eigen_smooth: bool = True) -> dict[str, HeatMap]:
    """One map (H, W) in [0, 1] for each layer of ``explanation``; ``size`` is (width, height) of the picture.

    Each map is scaled so that its greatest value is 1; all 0 where nothing speaks for the decision or the map is
    constant, and 0 outside what the model was shown. ``eigen_smooth`` keeps the first principal component over
    channels (as published). The model's mode, gradients and ``requires_grad`` flags are left as they were.
    """
    module = explanation.module
    modes = {part: part.training for part in module.modules()}
    needed = {parameter: parameter.requires_grad for parameter in module.parameters()}
    module.requires_grad_(False)
    gradients = {parameter: parameter.grad for parameter in needed}
    try:
        maps = {name: _square_map(explanation, layer, eigen_smooth) for name, layer in explanation.layers.items()}
    finally:
        for parameter, flag in needed.items():
            parameter.requires_grad_(flag)
            parameter.grad = gradients[parameter]
        for part, mode in modes.items():
            part.training = mode
    return {name: place(square, explanation.shown, size) for name, square in maps.items()}


def _square_map(explanation: Explanation, layer: nn.Module, eigen_smooth: bool) -> HeatMap:
    """The map (S, S) of what the model was shown."""
    cam = PatchGradCAM(explanation.module, [layer], reshape_transform=patch_grid)
    try:
        with torch.enable_grad():
            found = cam(explanation.pixel_values, [explanation.target], eigen_smooth=eigen_smooth)[0]
    finally:
        cam.activations_and_grads.release()
    return np.clip(np.nan_to_num(np.asarray(found, np.float32)), 0, 1)


def place(square: HeatMap, shown: Box, size: tuple[int, int]) -> HeatMap:
    """The map ``square`` (S, S) of the part ``shown`` laid onto a picture of ``size`` (width, height); 0 elsewhere.

    Bilinear at pixel centres; within [0, 1].
    """
    width, height = size
    side_y, side_x = square.shape
    x = (np.arange(width) + 0.5 - shown.left) * (side_x / shown.width) - 0.5
    y = (np.arange(height) + 0.5 - shown.top) * (side_y / shown.height) - 0.5
    grid_x, grid_y = (axis.astype(np.float32) for axis in np.meshgrid(x, y))
    placed = cv2.remap(square, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (grid_x > -0.5) & (grid_x < side_x - 0.5) & (grid_y > -0.5) & (grid_y < side_y - 0.5)
    return np.clip(np.where(inside, placed, 0), 0, 1).astype(np.float32)


def overlay(image: Image.Image, heat: HeatMap, image_weight: float = 0.5) -> Image.Image:
    """The picture with the map (same size, in [0, 1]) laid over it in the colours blue (0) to red (1).

    Raises InputError when the sizes differ.
    """
    if heat.shape != (image.height, image.width):
        raise InputError(f"a heat map of shape {heat.shape} for a picture of {image.width} x {image.height} pixels")
    pixels = np.asarray(image.convert("RGB"), np.float32) / 255
    return Image.fromarray(show_cam_on_image(pixels, heat, use_rgb=True, image_weight=image_weight))


def save_heatmaps(
    image: Image.Image, explanation: Explanation, folder: Path, stem: str, eigen_smooth: bool = True
) -> list[Path]:
    """Write ``<stem>_heat1.png``, ``_heat2.png``, ... (one overlay per layer, in order) into ``folder``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, heat in enumerate(heat_maps(explanation, image.size, eigen_smooth).values(), start=1):
        paths.append(folder / f"{stem}_heat{number}.png")
        overlay(image, heat).save(paths[-1])
    return paths
