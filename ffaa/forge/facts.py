"""What can be measured on a finished picture, in the words that answers use."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np

from ffaa.forge.camera import Shot
from ffaa.forge.regions import face_mask


@dataclass(frozen=True)
class Facts:
    """Measurements on the stored picture (after JPEG), at its stored size.

    Attributes:
        brightness: mean grey level, 0..255.
        sharpness: variance of the Laplacian of the grey picture.
        background: mean grey level of the upper left and right edges.
        saturation: mean of HSV's S, 0..255.
        yaw: nose tip between the jaw's two ends, -1..1; negative where the picture's left half of the face is narrower.
        mouth: gap between the inner lips over the width of the mouth.
        sharpness_ratio: Laplacian energy inside the face over that of a ring around it.
        tone_difference: CIELAB distance between the mean colours of the face and of that ring.
    """

    brightness: float
    sharpness: float
    background: float
    saturation: float
    yaw: float
    mouth: float
    sharpness_ratio: float
    tone_difference: float

    def to_json(self) -> dict[str, float]:
        """Rounded to 4 digits."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Terciles:
    """Limits between low, middle and high, measured on the real photographs of the training people."""

    brightness: tuple[float, float]
    sharpness: tuple[float, float]
    background: tuple[float, float]
    sharpness_ratio: tuple[float, float]
    tone_difference: tuple[float, float]


def measure(shot: Shot) -> Facts:
    """Facts of a picture with known landmarks."""
    grey = cv2.cvtColor(shot.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    laplacian = cv2.Laplacian(grey, cv2.CV_32F)
    size = grey.shape[0]
    strip, down = round(size * 0.08), round(size * 0.31)
    points = shot.points
    left = points[30, 0] - points[0:3, 0].mean()
    right = points[14:17, 0].mean() - points[30, 0]
    inside = face_mask(points, size, size)
    ring = cv2.dilate(inside, np.ones((25, 25), np.uint8)) * (1 - cv2.dilate(inside, np.ones((5, 5), np.uint8)))
    within, around = cv2.erode(inside, np.ones((9, 9), np.uint8)) > 0, ring > 0
    lab = cv2.cvtColor(shot.pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return Facts(
        brightness=float(grey.mean()),
        sharpness=float(laplacian.var()),
        background=float(np.concatenate([grey[:down, :strip].ravel(), grey[:down, -strip:].ravel()]).mean()),
        saturation=float(cv2.cvtColor(shot.pixels, cv2.COLOR_RGB2HSV)[..., 1].mean()),
        yaw=float((left - right) / (left + right)),
        mouth=float(np.linalg.norm(points[62] - points[66]) / np.linalg.norm(points[48] - points[54])),
        sharpness_ratio=float(laplacian[within].var() / (laplacian[around].var() + 1e-6)),
        tone_difference=float(np.linalg.norm(lab[within].mean(0) - lab[around].mean(0))),
    )


def level(value: float, limits: tuple[float, float]) -> int:
    """0, 1 or 2: below, between or above the limits."""
    return int(np.searchsorted(limits, value))
