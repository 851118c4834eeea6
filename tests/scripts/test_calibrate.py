"""The fit on made-up analyses; and from a tiny checkpoint with scripted answers to a calibrated method."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffaa.backbones.adapter import attach_lora, save_adapter
from ffaa.backbones.generation import TransformersEngine
from ffaa.backbones.mllm import build_mllm
from ffaa.config import load_yaml, model_folder
from ffaa.data.records import write_records
from ffaa.dialogue.answers import format_answer
from ffaa.methods import load_method
from ffaa.methods.calibration import CALIBRATION_FILE
from ffaa.methods.ffaa.method import Ffaa, FfaaConfig
from ffaa.methods.ffaa.mids import build_mids, save_mids
from ffaa.types import Analysis, Answer, GeneratedText, InputError, Record, Request, Verdict
from scripts import assemble_checkpoint
from scripts import calibrate as door
from scripts.calibrate import Options, calibrate

OPTIONS = Options()


def made_up(
    count: int, *, openings: bool = True, forged: float = 0.5, seed: int = 0
) -> tuple[list[Record], list[Analysis]]:
    """Pictures of ten people whose scores are overconfident, the more so the more forged they look."""
    random = np.random.default_rng(seed)
    records, analyses = [], []
    for index in range(count):
        fake = bool(random.random() < forged)
        evidence = random.normal(1.0 if fake else -1.0, 1.2)
        score = 1 / (1 + np.exp(-6 * evidence))
        verdict = Verdict.FAKE if score > 0.5 else Verdict.REAL
        opening = 1 / (1 + np.exp(-random.normal(2.0 if fake else -2.0, 2.0))) if openings else None
        records.append(Record(str(index), "x", "fake" if fake else "real", group=f"person {index % 10}"))
        analyses.append(Analysis(verdict, float(score), (Answer("", verdict, opening_score=opening),)))
    return records, analyses


def measured(records: Sequence[Record], analyses: Sequence[Analysis]) -> dict[str, Any]:
    return dict(calibrate(records, analyses, OPTIONS).measured)


def test_it_calibrates_and_says_by_how_much() -> None:
    found = measured(*made_up(600))
    assert found["ece"] < 0.06 < found["ece_of_the_score"]
    assert found["auc"] > found["auc_of_the_score"]
    assert found["accuracy_where_certain"] > found["accuracy"] > found["accuracy_where_uncertain"]
    assert 0 < found["coverage"] < 1


def test_it_knows_how_many_are_forged() -> None:
    few = calibrate(*made_up(800, forged=0.15), OPTIONS)
    assert few.bias < calibrate(*made_up(800, forged=0.5), OPTIONS).bias - 0.8
    assert float(few.measured["ece"] or 1) < 0.06


def test_a_person_says_nothing_about_its_own_other_pictures() -> None:
    """Scores that name the person, all of whose pictures have one label: other people's tell nothing of them."""
    records, analyses = [], []
    for person in range(10):
        label, score = ("fake", "real")[person % 2], 0.05 + 0.1 * (person ^ 1)
        for index in range(10):
            verdict = Verdict.FAKE if score > 0.5 else Verdict.REAL
            records.append(Record(f"{person}/{index}", "x", label, group=f"person {person}"))
            analyses.append(Analysis(verdict, score, (Answer("", verdict),)))
    with pytest.raises(InputError, match="tell nothing apart"):
        calibrate(records, analyses, OPTIONS)


def test_answers_without_a_verdict_are_left_out_and_count_as_wrong() -> None:
    records, analyses = made_up(300)
    without = measured(records, analyses)
    unread = [Analysis(Verdict.UNPARSED, 0.99, (Answer("", Verdict.UNPARSED),))] * 100
    more = [Record(f"u{i}", "x", "real", group="person 3") for i in range(100)]
    found = measured([*records, *more], [*analyses, *unread])
    assert found["n_unparsed"] == 100 and found["auc"] == without["auc"]
    assert found["accuracy"] == pytest.approx(without["accuracy"] * 300 / 400)
    assert found["coverage"] == pytest.approx(without["coverage"] * 300 / 400)


def test_a_model_without_openings_is_calibrated_by_its_score_alone() -> None:
    assert list(calibrate(*made_up(100, openings=False), OPTIONS).weights) == ["score"]


def test_too_few_people_or_labels_are_said() -> None:
    with pytest.raises(InputError, match="at least 5 people"):
        calibrate(*made_up(4), OPTIONS)
    records, analyses = made_up(200)
    one = [Record(r.id, r.image, "fake" if r.group == "person 1" else "real", group=r.group) for r in records]
    with pytest.raises(InputError, match="real and forged pictures of at least 5 people"):
        calibrate(one, analyses, OPTIONS)


@pytest.mark.parametrize("wrong", [{"block_size": 0}, {"accuracy": 0.2}, {"accuracy": 5.0}, {"accuracy": float("nan")}])
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Options(**wrong)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny checkpoint as training and ``assemble_checkpoint.py`` make it."""
    config = load_yaml(model_folder("ffaa", "tiny") / "model.yaml", FfaaConfig)
    save_adapter(attach_lora(build_mllm(config.mllm), config.mllm, seed=0), tmp_path / "parts" / "mllm")
    save_mids(build_mids(config.mids, seed=3), tmp_path / "parts" / "mids")
    return tmp_path / "checkpoint"


def assemble(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = checkpoint.parent / "parts"
    arguments = ["--mllm", parts, "--mids", parts, "--out", checkpoint]
    monkeypatch.setattr(sys, "argv", ["assemble_checkpoint.py", "--model", "tiny", *map(str, arguments)])
    assert assemble_checkpoint.main() == 0


def scripted(self: TransformersEngine, images: Sequence[Image.Image], questions: Sequence[Sequence[str]]) -> list[Any]:
    """Answers by the picture's brightness, with an opening score."""
    rows = []
    for image, asked in zip(images, questions, strict=True):
        level = np.asarray(image).mean() / 255
        verdict = Verdict.FAKE if level > 0.5 else Verdict.REAL
        text = format_answer("A face.", "For reasons.", verdict, 0.9, "Identity swap" if level > 0.5 else None)
        rows.append([GeneratedText(text, True, level, level) for _ in asked])
    return rows


def test_from_a_checkpoint_to_a_calibrated_method(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TransformersEngine, "ask", scripted)
    assemble(checkpoint, monkeypatch)
    random, data = np.random.default_rng(0), tmp_path / "data"
    (data / "imgs").mkdir(parents=True)
    records = []
    for index in range(30):
        label = ("real", "fake")[index % 2]
        level = int(np.clip(random.normal(150 if label == "fake" else 105, 40), 0, 255))
        Image.new("RGB", (32, 32), (level,) * 3).save(data / "imgs" / f"{index}.png")
        records.append(Record(str(index), f"imgs/{index}.png", label, group=f"person {index // 5}"))
    write_records(data / "records.jsonl", records)
    arguments = ["--data", str(data), "--model", "tiny", "--checkpoint", str(checkpoint), "--dtype", "float32"]
    monkeypatch.setattr(sys, "argv", ["calibrate.py", *arguments, "--block_size", "7"])
    assert door.main() == 0 and "coverage: " in capsys.readouterr().out

    def loaded(**options: Any) -> Ffaa:
        folder = model_folder("ffaa", "tiny")
        method = load_method("ffaa", model_dir=folder, checkpoint=checkpoint, device="cpu", dtype="float32", **options)
        assert isinstance(method, Ffaa)
        return method

    request = Request(Image.new("RGB", (32, 32), (250,) * 3), id="bright")
    method, plain = loaded(), loaded(calibrate=False)
    assert method.calibration is not None
    (analysis,), (raw,) = method.analyze([request]), plain.analyze([request])
    assert analysis.probability == method.calibration.probability({"score": raw.score, "opening": 250 / 255})
    assert analysis.uncertain is not None and raw.probability is None and raw.score == analysis.score
    assert "calibration" in method.fingerprint and "calibration" not in plain.fingerprint
    # Another number of answers has other scores.
    assert loaded(generate_num=1).calibration is None
    # Called again it gives the same, though a calibration is there by now.
    written = (checkpoint / CALIBRATION_FILE).read_text()
    assert door.main() == 0 and (checkpoint / CALIBRATION_FILE).read_text() == written
    facts = json.loads(written)
    (checkpoint / CALIBRATION_FILE).write_text(json.dumps({**facts, "fitted_on": {**facts["fitted_on"], "mids": "x"}}))
    with pytest.raises(InputError, match="fitted to other weights"):
        loaded()
    # It is no part of other weights.
    settings = load_yaml(model_folder("ffaa", "tiny") / "model.yaml", FfaaConfig).mids
    save_mids(build_mids(settings, seed=4), tmp_path / "parts" / "mids")
    assemble(checkpoint, monkeypatch)
    assert not (checkpoint / CALIBRATION_FILE).exists() and loaded().calibration is None
