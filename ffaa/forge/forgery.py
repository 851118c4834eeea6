"""What a forger returns, and the strengths it works at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ffaa.forge.faces import Pixels
from ffaa.forge.regions import Mask

Range = tuple[float, float]


class Kind(StrEnum):
    """How a picture came to be."""

    REAL = "real"
    BLEND = "blend"
    SWAP = "swap"
    POISSON = "poisson"
    LOCAL = "local"
    EXPRESSION = "expression"
    SYNTHESIS = "synthesis"


FORGERY_TYPES: Mapping[Kind, str] = {
    Kind.REAL: "None",
    Kind.BLEND: "Face blending",
    Kind.SWAP: "Identity swap",
    Kind.POISSON: "Identity swap",
    Kind.LOCAL: "Attribute manipulation",
    Kind.EXPRESSION: "Attribute manipulation",
    Kind.SYNTHESIS: "Entire face synthesis",
}
"""The map from manipulations to the forgery types that answers name."""


@dataclass(frozen=True)
class Strengths:
    """How strong forgeries are; every range is drawn from uniformly. Defaults: the frozen test recipe."""

    value: Range = (0.05, 0.13)
    """Relative change of brightness of a self-blended face, either sign."""
    saturation: Range = (0.08, 0.25)
    """Relative change of saturation of a self-blended face, either sign."""
    hue: float = 4.0
    """Largest hue shift of a self-blended face, in OpenCV's half degrees."""
    soften: Range = (0.4, 0.65)
    """Down-and-up scale of a softened blend."""
    feather: Range = (0.8, 3.5)
    """Standard deviation of the mask's edge in pixels."""
    colour_transfer: Range = (0.75, 1.0)
    """How far a swapped face takes the target's mean and deviation of colour."""
    warp: Range = (0.22, 0.38)
    """Local scale change of an enlarged or shrunk part."""
    blur: Range = (1.4, 2.4)
    """Standard deviation of a blurred part in pixels."""
    tint_saturation: Range = (0.45, 1.7)
    """The two factors of a recoloured part's saturation."""
    tint_value: Range = (0.75, 1.25)
    """The two factors of a recoloured part's brightness."""
    tint_hue: Range = (4.0, 9.0)
    """Hue shift of a recoloured part, either sign."""
    smoothing: int = 2
    """Passes of the bilateral filter over smoothed skin."""
    liquify_share: float = 0.0
    """Share of edits of one region, skin apart, that push points of it about instead."""
    push: Range = (0.07, 0.2)
    """How far such a point is pushed, in eye distances."""
    brush: Range = (0.25, 0.55)
    """How far around it the push is felt, in eye distances."""
    expression: Range = (0.10, 0.18)
    """Displacement of mouth corners or lids in eye distances."""


@dataclass(frozen=True)
class Forgery:
    """A forged picture (H, W, 3), its soft mask (H, W) in [0, 1] of what was changed, and the facts of the edit.

    ``regions`` are concepts of the tree; ``artefacts`` maps what was done to how it was done, for the answer's text.
    """

    kind: Kind
    pixels: Pixels
    mask: Mask
    regions: tuple[str, ...] = ()
    artefacts: Mapping[str, str] = field(default_factory=dict)
