"""Where a face is and how it is cut out: one detector and one crop rule for training, benchmarks and inference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ffaa.data.images import MAX_PIXELS
from ffaa.types import Box, InputError

if TYPE_CHECKING:
    import torch

CROP_MARGIN = 0.3
"""Added to the longer side of the face box, as a share of it: the crop is 1.3 times the box, as in DeepfakeBench."""

MIN_CONFIDENCE = 0.9
"""Detections below this are dropped: MTCNN's own threshold (0.7) lets through large, wrong boxes."""

MIN_FACE_SIDE = 20
"""Shortest side in pixels of a face that is looked for, after the picture was brought to detection size."""

DETECTION_SIDE = 1024
"""Pictures with a longer side than this are searched at this size; boxes are given in the original's pixels."""

SMALLEST_SIDE = 160
"""Pictures with both sides below this are enlarged for the search, so that thumbnails are found too."""


class NoFaceError(InputError):
    """No face was found in a picture that needs one."""


@dataclass(frozen=True, eq=False)
class Face:
    """One detected face, in pixels of the upright picture.

    ``box`` may leave the picture. ``points`` is float32 (5, 2), x and y of: left eye, right eye, nose, left and right
    corner of the mouth, left and right as seen by the viewer. ``confidence`` is in [0, 1].
    """

    box: Box
    confidence: float
    points: np.ndarray


class FaceDetector:
    """MTCNN (Zhang et al. 2016, arXiv 1604.02878) by facenet-pytorch, whose wheel holds the weights.

    The same picture gives the same faces at every call; nothing is random.
    """

    def __init__(self, device: str | torch.device = "cpu", min_confidence: float = MIN_CONFIDENCE) -> None:
        import torch
        from facenet_pytorch import MTCNN

        self.min_confidence = min_confidence
        self._network = MTCNN(keep_all=True, min_face_size=MIN_FACE_SIDE, device=torch.device(device)).eval()

    def detect(self, image: Image.Image) -> list[Face]:
        """All faces of an upright RGB picture, the largest first (ties: more confident, then further left)."""
        width, height = image.size
        scale = _detection_scale(width, height)
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        if min(small) < MIN_FACE_SIDE:  # the network's image pyramid would be empty
            return []
        # Bilinear: PIL widens the kernel when it shrinks, so this does not alias, and it is twice as fast as bicubic.
        pixels = np.array(image.convert("RGB").resize(small, Image.Resampling.BILINEAR))
        boxes, confidences, points = self._network.detect(pixels, landmarks=True)
        if boxes is None:
            return []
        factor = np.array([width / small[0], height / small[1]], dtype=np.float64)
        faces = []
        for box, confidence, five in zip(boxes, confidences, points, strict=True):
            corners = np.asarray(box, dtype=np.float64).reshape(2, 2) * factor
            sides = corners[1] - corners[0]
            if float(confidence) < self.min_confidence or not np.isfinite(corners).all() or sides.min() <= 0:
                continue
            (left, top), (right, bottom) = corners.tolist()
            five = (np.asarray(five, dtype=np.float64) * factor).astype(np.float32)
            faces.append(Face(Box(left, top, right, bottom), min(float(confidence), 1.0), five))
        return sorted(faces, key=lambda f: (-f.box.width * f.box.height, -f.confidence, f.box.left))

    def largest(self, image: Image.Image) -> Face:
        """The largest face of the picture. Raises `NoFaceError` where there is none."""
        faces = self.detect(image)
        if not faces:
            raise NoFaceError("no face found in the picture")
        return faces[0]


def _detection_scale(width: int, height: int) -> float:
    longest = max(width, height)
    if longest > DETECTION_SIDE:
        return DETECTION_SIDE / longest
    return max(1.0, SMALLEST_SIDE / longest)


def crop_box(box: Box, margin: float = CROP_MARGIN) -> Box:
    """The square around a face box: same centre, side ``(1 + margin) * max(width, height)``.

    It may leave the picture. Raises `InputError` for a negative or infinite margin and for a box without area.
    """
    values = (box.left, box.top, box.right, box.bottom)
    if not all(math.isfinite(v) for v in values) or box.width <= 0 or box.height <= 0:
        raise InputError(f"a face box must be left < right and top < bottom, in pixels; got {values}")
    if not (math.isfinite(margin) and margin >= 0):
        raise InputError(f"the crop margin must be 0 or more, got {margin}")
    half = (1 + margin) * max(box.width, box.height) / 2
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return Box(x - half, y - half, x + half, y + half)


def pixel_square(box: Box) -> tuple[int, int, int]:
    """A square box on the pixel grid: left, top and side, which is at least 1."""
    side = max(1, round(max(box.width, box.height)))
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return round(x - side / 2), round(y - side / 2), side


def crop_face(image: Image.Image, box: Box, margin: float = CROP_MARGIN, size: int | None = None) -> Image.Image:
    """Cut out `crop_box` of a face, snapped to whole pixels; what lies outside the picture is its mirror image.

    The result is square: the crop's own pixels, or ``size`` by ``size``. Resizing is bicubic as PIL does it (the
    kernel grows when shrinking, so nothing aliases), which is also what CLIP's preprocessing uses; Lanczos rings
    at edges, and a ringing edge looks like a trace of editing.

    Raises `InputError` as `crop_box` does, and for a crop that does not touch the picture or is absurdly large.
    """
    left, top, side = pixel_square(crop_box(box, margin))
    width, height = image.size
    if left >= width or top >= height or left + side <= 0 or top + side <= 0:
        raise InputError(f"the face box {box} lies outside the picture of {width}x{height} pixels")
    if side * side > MAX_PIXELS:
        raise InputError(f"the face crop would be {side}x{side} pixels; at most {MAX_PIXELS} pixels are allowed")
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        crop = image.crop((left, top, left + side, top + side))
    else:
        pixels = np.asarray(image)
        rows = _mirrored(top, side, height)
        columns = _mirrored(left, side, width)
        crop = Image.fromarray(np.ascontiguousarray(pixels[rows][:, columns]))
    return crop if size is None or size == side else crop.resize((size, size), Image.Resampling.BICUBIC)


def _mirrored(start: int, length: int, extent: int) -> np.ndarray:
    """Indices start..start+length-1 folded into 0..extent-1 by reflection about the border pixels."""
    if extent == 1:
        return np.zeros(length, dtype=np.int64)
    folded = np.arange(start, start + length) % (2 * (extent - 1))
    return np.minimum(folded, 2 * (extent - 1) - folded)
