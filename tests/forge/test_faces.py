"""Locating a face for forging."""

from __future__ import annotations

import numpy as np
import pytest

from ffaa.data.faces import NoFaceError
from ffaa.forge.faces import FaceLocator, SourceFace
from ffaa.forge.library import load_faces, locate_all
from ffaa.types import InputError


def test_landmarks_lie_in_the_face(face: SourceFace) -> None:
    assert face.points.shape == (68, 2) and face.points.dtype == np.float32
    eyes, nose, mouth, chin = face.points[36:48], face.points[30], face.points[48:60], face.points[8]
    assert eyes[:, 1].mean() < nose[1] < mouth[:, 1].mean() < chin[1]
    assert face.points[36:42, 0].mean() < nose[0] < face.points[42:48, 0].mean()
    assert face.box.left < nose[0] < face.box.right and face.box.top < nose[1] < face.box.bottom


def test_no_face_is_an_error_that_names_the_picture() -> None:
    with pytest.raises(NoFaceError, match="wall"):
        FaceLocator().locate(np.full((96, 96, 3), 128, np.uint8), id="wall", person="nobody")


def test_generated_pictures_without_a_face_are_left_out(grey_face: SourceFace) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3)).astype(np.uint8)
    found = locate_all([noise, grey_face.pixels], person="maker")
    assert [(face.id, face.person) for face in found] == [("maker/1", "maker/1")]


def test_an_asset_without_photographs_is_named() -> None:
    with pytest.raises(InputError, match="'minilm_l6' holds no photographs of faces; those that do: celeba_faces"):
        load_faces("minilm_l6")
