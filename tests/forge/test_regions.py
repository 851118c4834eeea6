"""The concept tree and the masks of its regions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ffaa.forge.faces import SourceFace
from ffaa.forge.regions import EDITABLE, concepts, eye_distance, face_mask, hulls_of, region_mask
from ffaa.types import InputError


def _mask(name: str, face: SourceFace) -> np.ndarray:
    return region_mask(name, face.points, *face.pixels.shape[:2])


def test_the_tree_has_one_root_and_parents_stand_before_their_children() -> None:
    tree = concepts()
    names = list(tree)
    assert [name for name in names if tree[name].parent is None] == ["face"]
    for name, concept in tree.items():
        assert all(tree[child].parent == name for child in concept.children)
        assert concept.parent is None or names.index(concept.parent) < names.index(name)
        assert set(concept.without) <= set(names)
        assert bool(concept.hulls) != bool(concept.children), "a concept lies somewhere itself or through its children"


def test_hulls_name_landmarks_and_a_parent_holds_those_of_its_children() -> None:
    for name, concept in concepts().items():
        indices = {index for hull in hulls_of(name) for index in hull}
        assert indices <= set(range(68)) and len(indices) >= 3
        for child in concept.children:
            assert set(hulls_of(child)) <= set(hulls_of(name))


def test_editable_regions_are_concepts() -> None:
    assert set(EDITABLE) <= set(concepts())


@pytest.mark.parametrize("name", concepts())
def test_every_region_lies_in_and_around_the_face(name: str, face: SourceFace) -> None:
    mask = _mask(name, face)
    assert mask.dtype == np.float32 and set(np.unique(mask)) == {0.0, 1.0}
    rows, columns = np.nonzero(mask)
    distance = eye_distance(face.points)
    low, high = face.points.min(0) - distance, face.points.max(0) + distance
    assert low[0] <= columns.min() and columns.max() <= high[0] and low[1] <= rows.min() and rows.max() <= high[1]


def test_edited_regions_do_not_overlap(face: SourceFace) -> None:
    masks = {name: _mask(name, face) for name in EDITABLE if name != "skin"}
    for first, second in pairwise(sorted(masks)):
        shared = (masks[first] * masks[second]).sum()
        assert shared <= 0.1 * min(masks[first].sum(), masks[second].sum()), (first, second)
    for name in ("eyes", "eyebrows", "mouth"):
        assert not (_mask("skin", face) * masks[name]).any()


def test_a_parents_mask_is_the_union_of_its_childrens(face: SourceFace) -> None:
    for name, concept in concepts().items():
        if concept.children:
            union = np.max([_mask(child, face) for child in concept.children], axis=0)
            assert np.array_equal(_mask(name, face), union)


def test_sides_are_the_subjects_own(face: SourceFace) -> None:
    for part in ("eye", "eyebrow", "cheek"):
        right, left = (np.nonzero(_mask(f"{side} {part}", face))[1].mean() for side in ("right", "left"))
        assert right < left, "the subject's right is the viewer's left"


def test_masks_grow_with_the_picture(face: SourceFace) -> None:
    height, width = face.pixels.shape[:2]
    for name in EDITABLE:
        large = region_mask(name, face.points * 2, 2 * height, 2 * width).sum()
        assert large == pytest.approx(4 * _mask(name, face).sum(), rel=0.25)


def test_an_unknown_region_is_named() -> None:
    with pytest.raises(InputError, match="no region 'beard'"):
        hulls_of("beard")
    with pytest.raises(InputError, match="no region 'beard'"):
        region_mask("beard", np.zeros((68, 2), np.float32), 8, 8)


def test_the_forehead_raises_the_face_mask_only(face: SourceFace) -> None:
    height, width = face.pixels.shape[:2]
    brows, lifted = (face_mask(face.points, height, width, forehead=f) for f in (0.0, 0.3))
    assert (lifted >= brows).all()
    assert np.nonzero(lifted)[0].min() < np.nonzero(brows)[0].min()
    below = int(face.points[[4, 12], 1].max())  # above, the hull's sides rise to the lifted brows
    assert np.array_equal(lifted[below:], brows[below:])
