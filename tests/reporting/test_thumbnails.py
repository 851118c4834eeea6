from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffaa.reporting import thumbnails
from ffaa.reporting.gallery import Places, find_files
from ffaa.reporting.report_run import Run
from ffaa.reporting.thumbnails import HEAT, MASK, SIDES, Source, heat_maps_of, make_thumbnails, mask_of, picture_of
from ffaa.types import InputError


def noise(path: Path, side: int = 400) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (side, side // 2, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def opened(place: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(place.partition("base64,")[2])))


def test_few_pictures_are_shown_large(tmp_path: Path) -> None:
    sources = [Source(noise(tmp_path / "a.png")), Source(noise(tmp_path / "b.png"), MASK), Source(tmp_path / "a.png")]
    made = make_thumbnails(sources, None, tmp_path / "page.html")
    assert made.side == SIDES[0] and len(made.places) == 2
    assert opened(made.places[made.keys[sources[0]]]).size == (160, 320)
    assert max(opened(made.places[made.keys[sources[1]]]).size) == 128


def test_many_are_shown_small_enough_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [Source(noise(tmp_path / f"{n}.png")) for n in range(4)]
    whole = sum(len(place) for place in make_thumbnails(sources, None, tmp_path / "p").places.values())
    monkeypatch.setattr(thumbnails, "ROOM", whole // 8)
    made = make_thumbnails(sources, None, tmp_path / "p")
    assert made.side < SIDES[0] and sum(len(place) for place in made.places.values()) <= whole // 4
    monkeypatch.setattr(thumbnails, "ROOM", 10)
    with pytest.raises(InputError, match="--assets_dir"):
        make_thumbnails(sources, None, tmp_path / "p")


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"x")
    bad = Source(tmp_path / "bad.jpg")
    made = make_thumbnails([bad], None, tmp_path / "p")
    assert made.key(bad) is None and "bad.jpg" in made.failed[bad] and made.key(None) is None
    assert make_thumbnails([], None, tmp_path / "p").places == {}


def test_files_belong_to_a_picture_by_name_and_stay_below_their_folder(tmp_path: Path) -> None:
    noise(tmp_path / "imgs" / "sub" / "a.jpg")
    noise(tmp_path / "masks" / "sub" / "a.png")
    noise(tmp_path / "secret.jpg")
    for number in (1, 2, 4):
        noise(tmp_path / "heat" / f"a_heat{number}.png")
    assert picture_of(tmp_path, "sub/a.jpg") and mask_of(tmp_path, "sub/a.jpg")
    assert picture_of(tmp_path, "../secret.jpg") is None and picture_of(tmp_path, "b.jpg") is None
    assert [source.path.name for source in heat_maps_of(tmp_path / "heat", "sub/a.jpg")] == [
        "a_heat1.png",
        "a_heat2.png",
    ]
    assert all(source.kind == HEAT for source in heat_maps_of(tmp_path / "heat", "a.jpg"))


def test_pictures_of_one_stem_do_not_get_each_others_heat_maps(tmp_path: Path) -> None:
    ids = ["real/vid1/000.png", "fake/vid9/000.png", "b.jpg", "b.png", "c.jpg"]
    for stem in ("000", "b", "c"):
        noise(tmp_path / "heat" / f"{stem}_heat1.png")
    run = Run(tmp_path / "run", "toy", [{"id": name, "status": "ok"} for name in ids], {})
    (found,) = find_files([run], Places({"toy": None}, [tmp_path / "heat"]))
    assert [name for name in ids if found[name].heat_maps] == ["c.jpg"]
