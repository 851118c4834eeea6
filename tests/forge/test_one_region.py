"""Edits of one region and changes of expression: the named thing happens, at the named place, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.random import default_rng

from ffaa.forge.faces import Pixels, SourceFace
from ffaa.forge.forgery import Forgery, Kind, Strengths
from ffaa.forge.one_region import OPERATIONS, change_expression, edit_region
from ffaa.forge.regions import EDITABLE, eye_distance, hulls_of, region_mask
from ffaa.types import InputError

LIQUIFIED = Strengths(liquify_share=0.5)


def _with_operation(face: SourceFace, region: str, operation: str) -> Forgery:
    for seed in range(60):
        forgery = edit_region(face, LIQUIFIED, default_rng(seed), region=region)
        if forgery.artefacts["operation"] == operation:
            return forgery
    raise AssertionError(f"no {operation} {region} in 60 draws")


def _expression(face: SourceFace, what: str) -> Forgery:
    for seed in range(60):
        forgery = change_expression(face, Strengths(), default_rng(seed))
        if forgery.artefacts["operation"] == what:
            return forgery
    raise AssertionError(f"no {what} in 60 draws")


def _core(region: str, face: SourceFace) -> np.ndarray:
    return region_mask(region, face.points, *face.pixels.shape[:2]) > 0


@pytest.mark.parametrize("region", EDITABLE)
@pytest.mark.parametrize("seed", range(3))
def test_the_mask_is_where_pixels_changed(region: str, seed: int, face: SourceFace) -> None:
    forgery = edit_region(face, Strengths(), default_rng(seed), region=region)
    assert forgery.kind is Kind.LOCAL and forgery.regions == (region,)
    assert forgery.mask.shape == face.pixels.shape[:2] and forgery.mask.dtype == np.float32
    assert 0 <= forgery.mask.min() and forgery.mask.max() <= 1 + 1e-6
    around = cv2.dilate(forgery.mask, np.ones((5, 5), np.uint8)) > 1e-4
    assert np.array_equal(forgery.pixels[~around], face.pixels[~around])
    changed = (forgery.pixels != face.pixels).any(-1)
    assert changed[_core(region, face)].mean() > 0.2
    assert forgery.mask[_core(region, face)].mean() > 0.5, "the mask lies on the region it names"


def test_the_region_is_drawn_when_none_is_given_and_an_unknown_one_is_an_error(face: SourceFace) -> None:
    drawn = {edit_region(face, Strengths(), default_rng(seed)).regions[0] for seed in range(40)}
    assert drawn == set(EDITABLE)
    with pytest.raises(InputError, match="no region 'beard'"):
        edit_region(face, Strengths(), default_rng(0), region="beard")


def test_every_operation_occurs_and_skin_is_smoothed(face: SourceFace) -> None:
    for region in ("eyes", "nose"):
        assert {_with_operation(face, region, operation).kind for operation in OPERATIONS} == {Kind.LOCAL}
    seeds = range(5)
    smoothed = {edit_region(face, Strengths(), default_rng(s), region="skin").artefacts["operation"] for s in seeds}
    assert smoothed == {"smoothed"}


def test_the_same_seed_gives_the_same_edit(face: SourceFace) -> None:
    for forge in (edit_region, change_expression):
        first, again = (forge(face, LIQUIFIED, default_rng(9)) for _ in range(2))
        assert np.array_equal(first.pixels, again.pixels) and np.array_equal(first.mask, again.mask)
        assert (first.regions, first.artefacts) == (again.regions, again.artefacts)


def _disc_at(face: SourceFace, indices: list[int], radius: int) -> SourceFace:
    """The face as a dark picture with a white disc at the middle of some landmarks."""
    pixels = np.zeros_like(face.pixels)
    part = face.points[indices]
    x, y = ((part.min(0) + part.max(0)) / 2).round().astype(int)
    cv2.circle(pixels, (int(x), int(y)), radius, (255, 255, 255), -1)
    return replace(face, pixels=pixels)


@pytest.mark.parametrize("region", ["eyes", "eyebrows", "nose", "mouth"])
def test_enlarged_parts_grow_and_shrunk_parts_shrink(region: str, colour_face: SourceFace) -> None:
    hulls = hulls_of(region)
    part = [i for hull in hulls for i in hull] if region in ("nose", "mouth") else list(hulls[0])
    marked = _disc_at(colour_face, part, 6)
    area = {op: _with_operation(marked, region, op).pixels.astype(float).sum() for op in ("enlarged", "shrunk")}
    before = marked.pixels.astype(float).sum()
    assert area["enlarged"] > 1.2 * before and area["shrunk"] < before / 1.2


@pytest.mark.parametrize("region", ["eyes", "eyebrows", "nose", "mouth"])
@pytest.mark.parametrize("seed", range(4))
def test_liquified_points_move_about_as_far_as_asked_and_within_the_mask(
    region: str, seed: int, colour_face: SourceFace
) -> None:
    """On two ramps, pixels tell where they came from; pushes that overlap add up."""
    height, width = colour_face.pixels.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    ramps = [np.repeat((axis * 240 // max(height, width))[..., None], 3, axis=2) for axis in (rows, columns)]
    always = replace(LIQUIFIED, liquify_share=1.0)
    down, along = (
        edit_region(replace(colour_face, pixels=ramp.astype(np.uint8)), always, default_rng(seed), region=region)
        for ramp in ramps
    )
    shift = np.hypot(*(f.pixels[..., 0].astype(float) - r[..., 0] for f, r in zip((down, along), ramps, strict=True)))
    distance = eye_distance(colour_face.points) * 240 / max(height, width)
    assert down.artefacts == {"operation": "liquified"} and down.regions == (region,)
    assert 0.5 * always.push[0] * distance < shift.max() < 4 * always.push[1] * distance
    assert shift[down.mask < 1e-4].max() <= 2 and (shift[_core(region, colour_face)] > 1).any()


def test_no_part_is_liquified_unless_a_recipe_asks(face: SourceFace) -> None:
    """And nothing is drawn for it: the frozen recipes' pictures stay what they are."""
    asked = replace(LIQUIFIED, liquify_share=1e-9)
    drawn = [
        [edit_region(face, strengths, default_rng(seed), region="nose").artefacts["operation"] for seed in range(30)]
        for strengths in (Strengths(), asked)
    ]
    assert "liquified" not in drawn[0] and drawn[0] != drawn[1]


def _detail(pixels: Pixels, where: np.ndarray) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_32F)[where].var())


@pytest.mark.parametrize("region", ["eyes", "eyebrows", "nose", "mouth"])
def test_blurred_parts_lose_detail_and_recoloured_ones_change_tone(region: str, face: SourceFace) -> None:
    core = _core(region, face)
    assert _detail(_with_operation(face, region, "blurred").pixels, core) < 0.6 * _detail(face.pixels, core)
    recoloured = _with_operation(face, region, "recoloured").pixels[core].astype(float)
    assert np.abs(recoloured.mean(0) - face.pixels[core].mean(0)).max() > 8


def test_smoothed_skin_loses_its_grain(face: SourceFace) -> None:
    forgery = edit_region(face, Strengths(), default_rng(0), region="skin")
    skin = cv2.erode(_core("skin", face).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert _detail(forgery.pixels, skin) < 0.6 * _detail(face.pixels, skin)


EXPRESSIONS = [  # what, region, landmark, does it rise
    ("smile", "mouth", 48, True),
    ("frown", "mouth", 54, False),
    ("widened eyes", "eyes", 37, True),
    ("narrowed eyes", "eyes", 44, False),
]


@pytest.mark.parametrize(("what", "region", "landmark", "rises"), EXPRESSIONS)
def test_expressions_move_what_they_name(
    what: str, region: str, landmark: int, rises: bool, colour_face: SourceFace
) -> None:
    marked = _disc_at(colour_face, [landmark], 2)
    forgery = _expression(marked, what)
    assert forgery.kind is Kind.EXPRESSION and forgery.regions == (region,)
    after = np.nonzero(forgery.pixels[..., 0] > 128)[0].mean()
    before = np.nonzero(marked.pixels[..., 0] > 128)[0].mean()
    assert after < before - 0.5 if rises else after > before + 0.5


@pytest.mark.parametrize("what", [row[0] for row in EXPRESSIONS])
def test_an_expression_changes_its_surroundings_only(what: str, face: SourceFace) -> None:
    forgery = _expression(face, what)
    outside = cv2.dilate(forgery.mask, np.ones((5, 5), np.uint8)) < 0.02
    difference = np.abs(forgery.pixels.astype(int) - face.pixels)
    assert difference[outside].max() <= 16, "a warp fades out, it does not end"
    assert difference[~outside].max() > 16
    assert forgery.mask[_core(forgery.regions[0], face)].max() > 0.9
    elsewhere = "eyes" if forgery.regions[0] == "mouth" else "mouth"
    assert forgery.mask[_core(elsewhere, face)].max() < 0.1
