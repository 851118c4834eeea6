"""Sets of pictures on disk: whole or not there, and readable as benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from ffaa.data.benchmark import load_benchmark
from ffaa.data.records import read_records, write_records
from ffaa.forge.camera import Camera, shoot
from ffaa.forge.conversations import ConversationSettings, write_conversations
from ffaa.forge.dataset import Split, label_benchmark, picture_facts, read_pictures, write_pictures
from ffaa.forge.explain import Wording
from ffaa.forge.faces import SourceFace
from ffaa.forge.facts import measure
from ffaa.forge.forgery import Kind
from ffaa.forge.recipe import Picture, Recipe
from ffaa.runtime import locked
from ffaa.types import InputError

RECIPE = Recipe(faces="orl_faces", people="free", counts={"real": 1, "local": 1})


def _pictures(face: SourceFace) -> list[Picture]:
    mask = np.zeros(face.pixels.shape[:2], np.float32)
    mask[40:70, 30:60] = 1
    real, fake = (shoot(face, m, Camera(size=112), np.random.default_rng(0)) for m in (None, mask))
    return [
        Picture(0, Kind.REAL, face, None, real, measure(real), (), {}),
        Picture(1, Kind.LOCAL, face, None, fake, measure(fake), ("nose",), {"operation": "blurred"}),
    ]


def test_what_is_written_is_read_back(tmp_path: Path, grey_face: SourceFace) -> None:
    pictures, seen = _pictures(grey_face), []
    write_pictures(pictures, tmp_path / "set", on_each=lambda: seen.append(1))
    lines = read_pictures(tmp_path / "set")
    assert lines == [picture_facts(picture) for picture in pictures] and len(seen) == 2
    real, fake = lines
    assert (real["label"], real["mask"], real["forgery_type"]) == ("real", None, "None")
    assert (fake["label"], fake["regions"], fake["artefacts"]) == ("fake", ["nose"], {"operation": "blurred"})
    assert real["person"] == "orl-s1" and real["source"] == "orl_s01_1.png"
    assert (tmp_path / "set" / real["image"]).read_bytes() == pictures[0].shot.jpeg
    mask = cv2.imread(str(tmp_path / "set" / fake["mask"]), cv2.IMREAD_GRAYSCALE)
    assert mask is not None and mask.mean() / 255 == pytest.approx(pictures[1].shot.mask.mean(), abs=0.01)


def test_training_finds_every_file_that_the_records_of_a_set_name(
    tmp_path: Path, grey_face: SourceFace, wording: Wording
) -> None:
    write_pictures(_pictures(grey_face), tmp_path)
    write_records(
        tmp_path / "records.jsonl", write_conversations(read_pictures(tmp_path), wording, ConversationSettings())
    )
    records = read_records(tmp_path / "records.jsonl", files_must_exist=True)
    assert [record.label for record in records] == ["real", "fake"]


def test_a_set_is_there_whole_or_not_at_all(tmp_path: Path, grey_face: SourceFace) -> None:
    def broken() -> Iterator[Picture]:
        yield _pictures(grey_face)[0]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_pictures(broken(), tmp_path / "set")
    assert not (tmp_path / "set").exists()
    with pytest.raises(InputError, match=r"holds no pictures\.jsonl: it was not built yet"):
        read_pictures(tmp_path / "set")
    write_pictures(_pictures(grey_face), tmp_path / "set")
    (tmp_path / "set" / "imgs" / "stale.jpg").touch()
    write_pictures(_pictures(grey_face)[:1], tmp_path / "set")
    assert [path.name for path in (tmp_path / "set" / "imgs").iterdir()] == ["00000.jpg"]
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["set"]


@pytest.mark.parametrize("types", [False, True])
def test_a_set_becomes_a_benchmark_of_the_published_layout(types: bool, tmp_path: Path, grey_face: SourceFace) -> None:
    write_pictures(_pictures(grey_face), tmp_path / "toy")
    label_benchmark(tmp_path / "toy", Split(RECIPE, types=types))
    benchmark = load_benchmark("toy", tmp_path)
    assert benchmark.has_types is types and [item.label for item in benchmark.items] == ["real", "fake"]
    labels = json.loads((tmp_path / "toy" / "toy.json").read_text())
    assert labels["00001.jpg"] == (["fake", "Attribute manipulation"] if types else "fake")


@pytest.mark.parametrize("name", ["set", "set.partial"])
def test_a_folder_of_something_else_is_left_alone(name: str, tmp_path: Path, grey_face: SourceFace) -> None:
    (tmp_path / name / "photos").mkdir(parents=True)
    (tmp_path / name / "photos" / "precious.jpg").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        write_pictures(_pictures(grey_face), tmp_path / "set")
    assert (tmp_path / name / "photos" / "precious.jpg").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    write_pictures(_pictures(grey_face), tmp_path / "empty")
    assert len(read_pictures(tmp_path / "empty")) == 2


def test_a_damaged_list_of_pictures_is_said(tmp_path: Path, grey_face: SourceFace) -> None:
    write_pictures(_pictures(grey_face), tmp_path / "set")
    with (tmp_path / "set" / "pictures.jsonl").open("a") as lines:
        lines.write('{"id": "x"\n')
    with pytest.raises(InputError, match="is damaged"):
        read_pictures(tmp_path / "set")


def test_two_do_not_build_one_set(tmp_path: Path, grey_face: SourceFace) -> None:
    with locked(tmp_path, ".set.lock"), pytest.raises(InputError, match="another process"):
        write_pictures(_pictures(grey_face), tmp_path / "set")
    assert not (tmp_path / "set").exists()
