"""Self-blends, swaps and gradient-domain clones: where pixels change, and that what is said of them is so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import Generator, default_rng

from ffaa.forge.faces import SourceFace
from ffaa.forge.forgery import Forgery, Kind, Strengths
from ffaa.forge.whole_face import composite, poisson_swap, self_blend, shift_hsv, swap

Forger = Callable[[SourceFace, SourceFace, Generator], Forgery]
FORGERS: dict[str, Forger] = {
    "blend": lambda donor, target, rng: self_blend(target, Strengths(), rng),
    "swap": lambda donor, target, rng: swap(donor, target, Strengths(), rng),
    "poisson": lambda donor, target, rng: poisson_swap(donor, target, rng),
}


@pytest.mark.parametrize("kind", FORGERS)
@pytest.mark.parametrize("seed", range(4))
def test_the_mask_is_where_pixels_changed(kind: str, seed: int, face: SourceFace, other_grey_face: SourceFace) -> None:
    forgery = FORGERS[kind](other_grey_face, face, default_rng(seed))
    assert forgery.kind == Kind(kind) and forgery.regions == ("face",)
    assert forgery.pixels.shape == face.pixels.shape and forgery.pixels.dtype == np.uint8
    assert forgery.mask.shape == face.pixels.shape[:2] and forgery.mask.dtype == np.float32
    assert 0 <= forgery.mask.min() and forgery.mask.max() <= 1 + 1e-6
    around = cv2.dilate(forgery.mask, np.ones((5, 5), np.uint8)) > 1e-4
    outside = np.abs(forgery.pixels.astype(int) - face.pixels)[~around]
    if kind == "poisson":  # the solver works on the mask's bounding box and leaves faint traces in its corners
        left, top, width, height = cv2.boundingRect((forgery.mask > 0).astype(np.uint8))
        around[top - 3 : top + height + 3, left - 3 : left + width + 3] = True
        assert np.median(outside) == 0 and outside.mean() < 0.5 and outside.max() < 32
    assert np.array_equal(forgery.pixels[~around], face.pixels[~around])
    inside = forgery.mask > 0.5
    assert (forgery.pixels[inside] != face.pixels[inside]).any(-1).mean() > 0.3
    eyes_and_mouth = face.points[[30, 51, 57]].round().astype(int)
    assert all(inside[y, x] for x, y in eyes_and_mouth)


@pytest.mark.parametrize("kind", FORGERS)
def test_the_same_seed_gives_the_same_forgery_and_another_seed_another(
    kind: str, face: SourceFace, other_grey_face: SourceFace
) -> None:
    first, again, *others = (FORGERS[kind](other_grey_face, face, default_rng(seed)) for seed in (5, 5, 6, 7, 8, 9))
    assert np.array_equal(first.pixels, again.pixels) and np.array_equal(first.mask, again.mask)
    assert first.artefacts == again.artefacts
    assert not all(np.array_equal(first.pixels, other.pixels) for other in others)


def _middle(face: SourceFace, forgery: Forgery) -> tuple[np.ndarray, np.ndarray]:
    """Original and forged pixels well inside the mask, HSV."""
    inside = cv2.erode((forgery.mask > 0.95).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    before, after = (cv2.cvtColor(p, cv2.COLOR_RGB2HSV)[inside] for p in (face.pixels, forgery.pixels))
    return before.astype(float), after.astype(float)


def _detail(pixels: np.ndarray, forgery: Forgery) -> float:
    inside = cv2.erode((forgery.mask > 0.95).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    return float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_32F)[inside].var())


def test_what_is_said_of_a_blend_can_be_measured(colour_face: SourceFace) -> None:
    named = set()
    for seed in range(25):
        forgery = self_blend(colour_face, Strengths(), default_rng(seed))
        before, after = _middle(colour_face, forgery)
        artefacts = dict(forgery.artefacts)
        assert artefacts.keys() & {"light", "colour"}, "an untouched copy would be no forgery"
        if "light" in artefacts:
            assert (after[:, 2].mean() > before[:, 2].mean()) == (artefacts["light"] == "brighter"), seed
        if "colour" in artefacts:
            assert (after[:, 1].mean() > before[:, 1].mean()) == (artefacts["colour"] == "more saturated"), seed
        if "sharpness" in artefacts:
            sharper = _detail(forgery.pixels, forgery) > _detail(colour_face.pixels, forgery)
            assert sharper == (artefacts["sharpness"] == "sharper"), seed
        named |= {artefacts.get(name, "-") for name in ("light", "colour", "sharpness")}
    assert named == {"brighter", "darker", "more saturated", "paler", "softer", "sharper", "-"}


@pytest.mark.parametrize(("feather", "edge"), [((0.8, 1.79), "narrow"), ((1.81, 3.5), "wide")])
def test_the_border_is_named_by_its_width(feather: tuple[float, float], edge: str, face: SourceFace) -> None:
    strengths = Strengths(feather=feather)
    for seed in range(5):
        assert swap(face, face, strengths, default_rng(seed)).artefacts["edge"] == edge


def test_a_forgery_reaches_as_high_as_it_says(colour_face: SourceFace) -> None:
    brows = colour_face.points[17:27, 1].min()
    extents = set()
    for seed in range(12):
        forgery = self_blend(colour_face, replace(Strengths(), feather=(0.8, 0.9)), default_rng(seed))
        top = np.nonzero(forgery.mask > 0.5)[0].min()
        assert (top < brows - 2) == (forgery.artefacts["extent"] == "forehead"), seed
        extents.add(forgery.artefacts["extent"])
    assert extents == {"forehead", "brows"}


@pytest.mark.parametrize("kind", ["swap", "poisson"])
def test_a_swap_shows_the_donor_in_the_targets_place(kind: str, faces: dict[str, SourceFace]) -> None:
    target, donor = faces["orl-s1"], faces["orl-s8"]
    forgery = FORGERS[kind](donor, target, default_rng(3))
    move, _ = cv2.estimateAffinePartial2D(donor.points, target.points)
    fitted = cv2.warpAffine(donor.pixels, move, target.pixels.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    inside = forgery.mask > 0.9

    def likeness(pixels: np.ndarray) -> float:
        return float(np.corrcoef(pixels[inside].ravel(), forgery.pixels[inside].ravel())[0, 1])

    assert likeness(fitted) > 0.8 and likeness(fitted) > likeness(target.pixels)


def test_full_colour_transfer_takes_the_targets_mean_and_deviation(colour_face: SourceFace, faces: dict) -> None:
    forgery = swap(faces["orl-s8"], colour_face, Strengths(colour_transfer=(1.0, 1.0)), default_rng(0))
    inside = forgery.mask > 0.99
    assert np.abs(forgery.pixels[inside].mean(0) - colour_face.pixels[inside].mean(0)).max() < 6
    assert np.abs(forgery.pixels[inside].std(0) - colour_face.pixels[inside].std(0)).max() < 6


@given(st.integers(0, 255), st.integers(0, 255), st.floats(0, 1))
def test_a_composite_lies_between_its_two_pictures(source: int, target: int, weight: float) -> None:
    pixels = composite(
        np.full((2, 2, 3), source, np.uint8), np.full((2, 2, 3), target, np.uint8), np.full((2, 2), weight, np.float32)
    )
    assert min(source, target) <= pixels.min() and pixels.max() <= max(source, target)
    assert weight != 0 or (pixels == target).all()
    assert weight != 1 or (pixels == source).all()


def test_hsv_shifts_do_what_their_names_say(colour_face: SourceFace) -> None:
    pixels = colour_face.pixels
    assert np.abs(shift_hsv(pixels).astype(int) - pixels).max() <= 6, "only rounding"
    before = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV).astype(float).mean((0, 1))
    paler = cv2.cvtColor(shift_hsv(pixels, saturation=0.5), cv2.COLOR_RGB2HSV).astype(float).mean((0, 1))
    darker = cv2.cvtColor(shift_hsv(pixels, value=0.5), cv2.COLOR_RGB2HSV).astype(float).mean((0, 1))
    assert paler[1] == pytest.approx(before[1] / 2, rel=0.1) and paler[2] == pytest.approx(before[2], rel=0.02)
    assert darker[2] == pytest.approx(before[2] / 2, rel=0.05)
    grey = np.full((4, 4, 3), 90, np.uint8)
    assert np.array_equal(shift_hsv(grey, hue=20, saturation=1.5), grey), "grey has no hue to shift"
