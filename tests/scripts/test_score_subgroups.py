"""Errors by group on a toy result, from estimates and from metadata, and what does not fit."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from ffaa.data.benchmark import load_benchmark, write_benchmark
from ffaa.data.images import open_image
from ffaa.evaluation import attribute_estimator
from ffaa.evaluation.attributes import Attributes
from ffaa.evaluation.result_folder import Job, RunSettings, read_config
from ffaa.evaluation.runner import run_jobs
from ffaa.types import Analysis, Answer, InputError, Request, Verdict
from scripts import score_subgroups

SAMPLES = Path(__file__).resolve().parents[2] / "playground" / "test_images"
PEOPLE = {"p007": "openpeople_p007.jpg", "p009": "openpeople_p009_selfie.jpg"}


class CallsEverythingFake:
    name, needs_face, generate_num = "toy", True, 1
    fingerprint: dict[str, Any] = {}

    def analyze(self, requests: list[Request]) -> list[Analysis]:
        answer = Answer("It is fake.", Verdict.FAKE, score=0.9)
        return [Analysis(Verdict.FAKE, 0.9, (answer,), id=request.id) for request in requests]


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """Two people, each with a real picture and a darkened one that is called forged."""
    folder = tmp_path / "benchmark" / "toy"
    (folder / "imgs").mkdir(parents=True)
    labels: dict[str, str | tuple[str, str | None]] = {}
    for person, name in PEOPLE.items():
        picture = open_image(SAMPLES / name)
        picture.save(folder / "imgs" / f"{person}-real.png")
        ImageEnhance.Brightness(picture).enhance(0.3).save(folder / "imgs" / f"{person}-fake.png")
        labels |= {f"{person}-real.png": "real", f"{person}-fake.png": "fake"}
    write_benchmark(folder, labels, {name: name[:4] for name in labels})
    out = tmp_path / "results" / "toy" / "run"
    settings = RunSettings(config={"method": "toy", "benchmark": "toy"}, block_size=2)
    run_jobs(CallsEverythingFake(), [Job(load_benchmark("toy", folder.parent), out, settings)])  # type: ignore[arg-type]
    return out


def scored(result: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> dict[str, Any]:
    root = result.parents[2] / "benchmark"
    monkeypatch.setattr(sys, "argv", ["x", "--results", str(result), "--benchmark_root", str(root), *options])
    assert score_subgroups.main() == 0
    found: dict[str, Any] = json.loads((result / "subgroups.json").read_text())
    return found


def test_estimates_are_kept_and_made_once(
    result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = scored(result, monkeypatch)
    assert found["source"] == "estimated" and set(found["attributes"]) == {"age", "sex", "skin as photographed"}
    sex = found["attributes"]["sex"]
    assert {name: of["n_people"] for name, of in sex.items()} == {"female": 1, "male": 1}
    for of in sex.values():
        assert (of["n_real"], of["n_fake"], of["recall_real"], of["recall_fake"]) == (1, 1, 0, 1)
        assert of["differences"]["accuracy"][0] == 0
    shown = capsys.readouterr().out
    assert "| female | 1 | 1 / 1 | 50.0 [" in shown and "not of how people see themselves" in shown

    shutil.rmtree(result.parents[2] / "benchmark")
    assert scored(result, monkeypatch) == found
    kept = result / "attributes.json"
    whole = json.loads(kept.read_text())
    corrected = {name: {**faces, "age": 50} for name, faces in whole["faces"].items()}
    kept.write_text(json.dumps({**whole, "faces": {**corrected, "p007-real.png": None}}))
    ages = scored(result, monkeypatch)["attributes"]["age"]
    assert list(ages) == ["45 and over"] and ages["45 and over"]["n"] == 3
    assert "age: not known of 1 of 4 pictures" in capsys.readouterr().out

    old = {name: {**faces, "age": "old"} for name, faces in whole["faces"].items()}
    for content, reason in (
        ({**whole, "faces": old}, "age must be a number from 0 to 150, got 'old'"),
        ({**whole, "data": "other"}, "not of this result's pictures; --fresh 1"),
        ([1], "got a list"),
    ):
        kept.write_text(json.dumps(content))
        with pytest.raises(InputError, match=reason):
            scored(result, monkeypatch)


def test_estimates_of_a_part_are_completed(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept when the run was cut: what it has more of now is estimated, the rest is as it was, also by hand."""
    asked: list[tuple[int, int]] = []

    class Estimator:
        def estimate(self, image: Image.Image) -> Attributes | None:
            asked.append(image.size)
            return Attributes(25, 0.1, 50.0)

    monkeypatch.setattr(attribute_estimator, "AttributeEstimator", Estimator)
    kept = result / "attributes.json"
    by_hand = {"p007-fake.png": None, "p007-real.png": {"age": 60, "male": 0.9, "tone": None}}
    kept.write_text(json.dumps({"data": read_config(result).get("data"), "faces": by_hand}))
    found = scored(result, monkeypatch)
    assert found["attributes"]["age"]["under 30"]["n"] == 2 and found["attributes"]["age"]["45 and over"]["n"] == 1
    faces = json.loads(kept.read_text())["faces"]
    assert len(asked) == 2 and len(faces) == 4 and {name: faces[name] for name in by_hand} == by_hand
    assert scored(result, monkeypatch) == found and len(asked) == 2


def test_a_forged_picture_is_in_the_group_of_the_face_that_it_shows() -> None:
    lines = [
        {"id": name, "label": label}
        for name, label in (("a", "real"), ("b", "real"), ("c", "fake"), ("d", "fake"), ("e", "real"))
    ]
    woman, man = Attributes(25, 0.1, 50.0), Attributes(50, 0.9, 20.0)
    known = {"a": woman, "b": Attributes(28, 0.6, 45.0), "c": woman, "d": man}
    groups = score_subgroups.by_face(lines, ["p", "p", "p", "p", "q"], known)
    assert [groups[name]["sex"] for name in "abcd"] == ["female", "female", "female", "male"]
    assert groups["a"] == groups["b"] and "e" not in groups


def test_metadata_take_the_place_of_estimates(result: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "people.json"
    file.write_text(json.dumps({f"p007-{kind}.png": {"glasses": "none"} for kind in ("real", "fake")}))
    found = scored(result, monkeypatch, "--metadata", str(file), "--decision", "free_answer")
    assert found["source"] == "people.json" and found["decision"] == "free_answer"
    assert (
        found["attributes"]["glasses"]["none"]["n"] == 2 and found["attributes"]["glasses"]["none"]["differences"] == {}
    )
    assert not (result / "attributes.json").exists()
    with pytest.raises(InputError, match=r"no decision 'calibrated'; it has method, free_answer"):
        scored(result, monkeypatch, "--decision", "calibrated")
    file.write_text(json.dumps({"p007-real.png": {}}))
    with pytest.raises(InputError, match="no attribute is known"):
        scored(result, monkeypatch, "--metadata", str(file))


def test_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--results", str(tmp_path / "none")])
    with pytest.raises(InputError, match="none"):
        score_subgroups.main()
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(InputError, match="no result given"):
        score_subgroups.main()
