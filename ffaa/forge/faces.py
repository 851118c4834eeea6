"""A face ready for forging: its pixels and where its parts are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ffaa.data.faces import FaceDetector, NoFaceError
from ffaa.data.landmarks import Landmarker
from ffaa.forge.regions import Points
from ffaa.types import Box

Pixels = NDArray[np.uint8]

_MIRROR = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
"""Index of each landmark's mirror image."""


@dataclass(frozen=True)
class SourceFace:
    """One upright RGB picture (H, W, 3) with the box of its largest face and its 68 landmarks (68, 2) in pixels.

    ``person`` keeps pictures of one person on one side of a split.
    """

    id: str
    person: str
    pixels: Pixels
    box: Box
    points: Points

    def mirrored(self) -> SourceFace:
        """The face seen in a mirror, landmarks renumbered."""
        width = self.pixels.shape[1]
        points = self.points[_MIRROR].copy()
        points[:, 0] = width - 1 - points[:, 0]
        box = Box(width - self.box.right, self.box.top, width - self.box.left, self.box.bottom)
        return replace(self, pixels=np.ascontiguousarray(self.pixels[:, ::-1]), points=points, box=box)


class FaceLocator:
    """Finds the largest face of a picture and its landmarks (MTCNN, then the 68-point net)."""

    def __init__(self) -> None:
        self._detector = FaceDetector()
        self._landmarker = Landmarker()

    def locate(self, pixels: Pixels, *, id: str, person: str) -> SourceFace:
        """Raises:
        NoFaceError: the picture shows no face.
        """
        from PIL import Image

        faces = self._detector.detect(Image.fromarray(pixels))
        if not faces:
            raise NoFaceError(f"no face found in {id}")
        points = self._landmarker.points(pixels, faces[0].box)
        return SourceFace(id=id, person=person, pixels=pixels, box=faces[0].box, points=points)
