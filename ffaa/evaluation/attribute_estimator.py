"""Age, sex and skin tone of a face, estimated from its picture.

Estimates serve to compare error rates between groups of pictures. About one person they say little: the network reads
what is customary of a face, and the tone is that of skin as lit and photographed.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from ffaa.data.age_sex import AgeSexEstimator
from ffaa.data.faces import FaceDetector
from ffaa.data.landmarks import Landmarker
from ffaa.evaluation.attributes import Attributes
from ffaa.forge.regions import region_mask

GREY_CHROMA = 2.0
"""Chroma (CIELAB) of the cheeks below which a picture is grey and its skin has no tone."""


class AttributeEstimator:
    """Looks at face crops. Deterministic."""

    def __init__(self) -> None:
        self._detector = FaceDetector()
        self._landmarker = Landmarker()
        self._age_sex = AgeSexEstimator()

    def estimate(self, picture: Image.Image) -> Attributes | None:
        """Estimates of the largest face of an upright RGB picture; None where no face is found."""
        faces = self._detector.detect(picture)
        if not faces:
            return None
        pixels = np.asarray(picture)
        points = self._landmarker.points(pixels, faces[0].box)
        found = self._age_sex.estimate([picture], [points])[0]
        return Attributes(min(max(found.age, 0.0), 150.0), found.male, skin_tone(pixels, points))


def skin_tone(pixels: np.ndarray, points: np.ndarray) -> float | None:
    """The individual typology angle of the cheeks, arctan((L* - 50) / b*) in degrees (Chardon et al. 1991).

    L* and b* are medians over the cheeks, so that shine, hair and shadow count little. Light and white balance move it
    by tens of degrees.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        points: (68, 2) of the face in it.

    Returns:
        The angle in (-90, 90); None where the cheeks are outside the picture, grey, or bluish in a cold light.
    """
    cheeks = region_mask("cheeks", points.astype(np.float32), *pixels.shape[:2]) > 0
    if not cheeks.any():
        return None
    lab = cv2.cvtColor((pixels / 255.0).astype(np.float32), cv2.COLOR_RGB2LAB)[cheeks]
    lightness, red, yellow = np.median(lab, axis=0).tolist()
    if np.hypot(red, yellow) < GREY_CHROMA or yellow <= 0:
        return None
    return float(np.degrees(np.arctan2(lightness - 50, yellow)))
