"""Corruptions by name and strength, to see how a method's figures fall: ``jpeg:50``, ``blur@3``, ``resize:0.5+jpeg@2``.

Six are those of DeeperForensics-1.0 (arXiv 2001.03024, section 4.3, with the parameters of its released code), at five
levels each; what is called JPEG there is a loss of size and is called ``pixelate`` here. True JPEG and resizing are
added. They work on whole upright RGB pictures, before a face is cut out.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import cv2
import numpy as np
from PIL import Image

from ffaa.data.degradations import RGB, downscale, jpeg, to_bytes
from ffaa.runtime import closest
from ffaa.types import InputError

_STEP = re.compile(r"(?P<name>[a-z]+)(?P<kind>[:@])(?P<value>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)")
_BLOCK = 8
_GREY = 128
_BLOCKS_PER_PIXELS = 256


@dataclass(frozen=True)
class Corruption:
    """One kind: what it does, its parameter at levels 1 to 5, and which values the parameter may have."""

    apply: Callable[[RGB, float, np.random.Generator], RGB]
    levels: tuple[float, ...]
    parameter: str
    low: float
    high: float
    whole: bool = False
    """The parameter is a whole number."""


def scale_chroma(image: RGB, factor: float) -> RGB:
    """Cb and Cr drawn towards grey: times ``factor`` (0 leaves no colour)."""
    ycc = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb)
    ycc[..., 1:] = 0.5 + (ycc[..., 1:] - 0.5) * factor
    return to_bytes(cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB) * 255)


def scale_values(image: RGB, factor: float) -> RGB:
    """All values times ``factor``: what DeeperForensics calls contrast also darkens."""
    return to_bytes(image.astype(np.float32) * factor)


def grey_blocks(image: RGB, count: int, rng: np.random.Generator) -> RGB:
    """Grey squares of 8 pixels at random places, ``count`` for every 256 pixels of the shorter side, at least so many.

    DeeperForensics rounds that number down, so that crops below 256 pixels stay as they are.
    """
    height, width = image.shape[:2]
    changed = image.copy()
    for _ in range(count * max(1, min(height, width) // _BLOCKS_PER_PIXELS)):
        top, left = (int(rng.integers(max(1, length - _BLOCK))) for length in (height, width))
        changed[top : top + _BLOCK, left : left + _BLOCK] = _GREY
    return changed


def chroma_noise(image: RGB, variance: float, rng: np.random.Generator) -> RGB:
    """Normal noise on Y, Cb and Cr, of ``variance`` in units of 0..1 of the studio range (219 and 224 steps of 255)."""
    ycc = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb)
    spread = math.sqrt(variance) * 255 / np.array([219, 224, 224])
    noisy = (ycc + rng.normal(0.0, 1.0, ycc.shape) * spread).astype(np.float32)
    return to_bytes(cv2.cvtColor(noisy, cv2.COLOR_YCrCb2RGB) * 255)


def blur(image: RGB, kernel: int) -> RGB:
    """Gaussian blur over a square of ``kernel`` pixels (odd), a sixth of it the standard deviation."""
    return cast(RGB, cv2.GaussianBlur(image, (kernel, kernel), kernel / 6))


def pixelate(image: RGB, factor: int) -> RGB:
    """Shrunk ``factor`` times and enlarged again, both bilinearly and without smoothing first."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, width // factor), max(1, height // factor)))
    return cast(RGB, cv2.resize(small, (width, height)))


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "saturation": Corruption(
            lambda x, v, rng: scale_chroma(x, v), (0.4, 0.3, 0.2, 0.1, 0.0), "factor of the colour", 0, 10
        ),
        "contrast": Corruption(
            lambda x, v, rng: scale_values(x, v), (0.85, 0.725, 0.6, 0.475, 0.35), "factor of all values", 0, 10
        ),
        "blocks": Corruption(
            lambda x, v, rng: grey_blocks(x, int(v), rng),
            (16, 32, 48, 64, 80),
            "number of grey blocks",
            1,
            10_000,
            True,
        ),
        "noise": Corruption(chroma_noise, (0.001, 0.002, 0.005, 0.01, 0.05), "variance of the noise", 0, 1),
        "blur": Corruption(lambda x, v, rng: blur(x, int(v)), (7, 9, 13, 17, 21), "pixels of the kernel", 1, 255, True),
        "pixelate": Corruption(
            lambda x, v, rng: pixelate(x, int(v)), (2, 3, 4, 5, 6), "factor of the loss of size", 1, 64, True
        ),
        "jpeg": Corruption(lambda x, v, rng: jpeg(x, int(v)), (90, 70, 50, 30, 10), "quality", 1, 100, True),
        "resize": Corruption(
            lambda x, v, rng: downscale(x, v), (0.75, 0.5, 0.35, 0.25, 0.125), "share of the size", 0.01, 1
        ),
    }
)
"""By name. ``blur`` wants an odd number."""


@dataclass(frozen=True)
class Step:
    """One corruption of a chain, with the value of its parameter."""

    name: str
    value: float

    @property
    def text(self) -> str:
        """As an option would spell it."""
        return f"{self.name}:{self.value:g}"


@dataclass(frozen=True)
class Chain:
    """Corruptions one after another; ``seed`` of what is random in them."""

    steps: tuple[Step, ...]
    seed: int = 0

    @property
    def text(self) -> str:
        """The chain with all values spelled out, in which ``blur@1`` and ``blur:7`` are the same."""
        return "+".join(step.text for step in self.steps)

    def __call__(self, image: Image.Image) -> Image.Image:
        """The corrupted picture. What is random depends on the seed, the chain and the picture's pixels alone."""
        pixels = np.array(image.convert("RGB"))
        digest = hashlib.sha256(f"{self.seed} {self.text} {pixels.shape}".encode() + pixels.tobytes()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        for step in self.steps:
            pixels = CORRUPTIONS[step.name].apply(pixels, step.value, rng)
        return Image.fromarray(pixels)


def parse_chain(text: str, seed: int = 0) -> Chain:
    """``NAME:VALUE`` (the parameter itself) or ``NAME@LEVEL`` (1 to 5), several joined by ``+``.

    Raises:
        InputError: an unknown name (with the closest), a value outside of what the corruption takes, another form.
    """
    return Chain(tuple(map(_step, text.split("+"))), seed)


def _step(text: str) -> Step:
    found = _STEP.fullmatch(text.strip().lower())
    if found is None:
        raise InputError(f"{text!r} is no corruption: write NAME:VALUE or NAME@LEVEL, such as jpeg:50 or blur@3")
    name, value = found["name"], float(found["value"])
    if name not in CORRUPTIONS:
        raise InputError(f"no corruption {name!r}{closest(name, CORRUPTIONS)}; there are {', '.join(CORRUPTIONS)}")
    kind = CORRUPTIONS[name]
    if found["kind"] == "@":
        if value not in range(1, len(kind.levels) + 1):
            raise InputError(f"{text!r}: levels are 1 to {len(kind.levels)}")
        return Step(name, kind.levels[int(value) - 1])
    whole = " whole number" if kind.whole else " number"
    if not kind.low <= value <= kind.high or (kind.whole and value != int(value)):
        raise InputError(f"{text!r}: {kind.parameter} is a{whole} from {kind.low:g} to {kind.high:g}")
    if name == "blur" and value % 2 == 0:
        raise InputError(f"{text!r}: {kind.parameter} is an odd number")
    return Step(name, value)
