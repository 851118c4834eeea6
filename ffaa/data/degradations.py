"""What happens to pictures on their way to us: compression, blur, noise, loss of size, shifts of colour.

Each function takes and gives upright RGB, ``uint8`` (H, W, 3), of the same size unless it says otherwise, changes
nothing in place, and depends on its arguments only: random ones take a ``numpy.random.Generator``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]


def to_bytes(values: NDArray[Any]) -> RGB:
    """Rounded and cut to 0 .. 255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def jpeg(image: RGB, quality: int) -> RGB:
    """Compressed as JPEG at ``quality`` (1..100, chroma halved) and read back."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    done, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR) if done else None
    if decoded is None:
        raise ValueError(f"cannot compress a picture of shape {image.shape}")
    return cast(RGB, cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def gaussian_noise(image: RGB, std: float, rng: np.random.Generator) -> RGB:
    """Independent normal noise of ``std`` grey levels on every channel of every pixel."""
    return to_bytes(image + rng.normal(0.0, std, image.shape))


def gaussian_blur(image: RGB, sigma: float) -> RGB:
    """Gaussian blur of ``sigma`` pixels, the picture mirrored at its borders; nothing at sigma 0."""
    if sigma <= 0:
        return image.copy()
    return cast(RGB, cv2.GaussianBlur(image, (0, 0), sigmaX=float(sigma), borderType=cv2.BORDER_REFLECT_101))


def motion_blur(image: RGB, length: int, angle: float) -> RGB:
    """Mean over a line of ``length`` pixels (odd) through each pixel, ``angle`` degrees against the horizontal."""
    if length < 1 or length % 2 == 0:
        raise ValueError(f"length is an odd number of pixels, not {length}")
    half = length // 2
    kernel = np.zeros((length, length), np.float32)
    step = half * np.array([np.cos(np.radians(angle)), -np.sin(np.radians(angle))])
    ends = [(int(x), int(y)) for x, y in (np.rint(half - step), np.rint(half + step))]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    kernel /= kernel.sum()
    return cast(RGB, cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def downscale(image: RGB, factor: float) -> RGB:
    """Shrunk to ``factor`` (0 < factor <= 1) of its size by area means and enlarged again bilinearly."""
    if not 0 < factor <= 1:
        raise ValueError(f"factor is between 0 and 1, not {factor}")
    height, width = image.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return cast(RGB, cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR))


def hsv_shift(image: RGB, hue: float, saturation: float, value: float) -> RGB:
    """Hue turned by ``hue`` half degrees (OpenCV's 0..180 circle); saturation and value (0..255) moved and clipped."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = np.mod(np.rint(hsv[..., 0] + hue), 180)
    hsv[..., 1:] = np.clip(np.rint(hsv[..., 1:] + (saturation, value)), 0, 255)
    return cast(RGB, cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB))


def fancy_pca(image: RGB, strengths: NDArray[np.floating]) -> RGB:
    """One colour added everywhere: along the principal axes of the picture's own colours.

    ``strengths`` (3,) multiplies the variance along each axis, strongest axis first, colours taken in 0..1
    (Krizhevsky et al. 2012, section 4.1, with the picture's covariance in place of the data set's).
    """
    colours = image.reshape(-1, 3).astype(np.float64) / 255
    variances, axes = np.linalg.eigh(np.cov(colours, rowvar=False))
    axes = axes[:, ::-1] * np.where(axes[:, ::-1].sum(axis=0) < 0, -1.0, 1.0)  # eigenvectors have no sign of their own
    shift = axes @ (np.asarray(strengths, np.float64) * variances[::-1])
    return to_bytes(image + 255 * shift)


def augment_for_mids(image: RGB, rng: np.random.Generator) -> RGB:
    """The published augmentation of MIDS's training pictures, on RGB (the reference ran it on swapped channels).

    JPEG 60-100 (p .5), noise of variance 10-50 (p .2), motion blur over 3-7 pixels (p .2), Gaussian blur of a 3-pixel
    kernel (sigma .8, p .2), then one of colour-axis shift (strength .1) and hue, saturation, value shift of up to 20,
    30, 20 (p .7).
    """
    steps: list[tuple[float, Callable[[RGB], RGB]]] = [
        (0.5, lambda x: jpeg(x, int(rng.integers(60, 101)))),
        (0.2, lambda x: gaussian_noise(x, float(np.sqrt(rng.uniform(10, 50))), rng)),
        (0.2, lambda x: motion_blur(x, int(rng.choice([3, 5, 7])), float(rng.uniform(0, 180)))),
        (0.2, lambda x: gaussian_blur(x, 0.8)),
        (0.7, lambda x: _shift_colour(x, rng)),
    ]
    for probability, step in steps:
        if rng.random() < probability:
            image = step(image)
    return image


def _shift_colour(image: RGB, rng: np.random.Generator) -> RGB:
    if rng.random() < 0.5:
        return fancy_pca(image, rng.normal(0.0, 0.1, 3))
    return hsv_shift(image, rng.uniform(-20, 20), rng.uniform(-30, 30), rng.uniform(-20, 20))
