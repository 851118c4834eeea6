"""A toy result on a toy set: truthful answers score everything, shuffled ones do not, and what does not fit is said."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from numpy.random import default_rng
from PIL import Image

from ffaa.config import CONFIGS, load_yaml
from ffaa.data.benchmark import write_benchmark
from ffaa.evaluation.result_folder import Job, RunSettings
from ffaa.evaluation.runner import run_jobs
from ffaa.forge.explain import Wording, explain
from ffaa.forge.facts import Facts
from ffaa.forge.forgery import Kind
from ffaa.types import Analysis, Hypothesis, InputError, Request
from scripts import report, score_answers

WORDING = load_yaml(CONFIGS / "forge" / "wording.yaml", Wording)
FACTS = Facts(90.0, 500.0, 200.0, 80.0, -0.5, 0.3, 0.8, 20.0)
EDITS: list[tuple[Kind, list[str], dict[str, str]]] = [
    (Kind.REAL, [], {}),
    (Kind.LOCAL, ["eyes"], {"operation": "enlarged"}),
    (Kind.LOCAL, ["nose"], {"operation": "blurred"}),
    (Kind.SWAP, ["face"], {"edge": "wide", "extent": "brows"}),
]


class Truthful:
    """Answers what the forger did; or, ``shifted``, what it did to the picture after."""

    name, needs_face, generate_num = "toy", True, 3
    fingerprint: dict[str, Any] = {}

    def __init__(self, shifted: int) -> None:
        self.shifted = shifted

    def analyze(self, requests: list[Request]) -> list[Analysis]:
        from ffaa.dialogue.answers import parse

        analyses = []
        for request in requests:
            kind, regions, artefacts = EDITS[(int(Path(request.id).stem) + self.shifted) % len(EDITS)]
            text = explain(kind, tuple(regions), artefacts, FACTS, WORDING, default_rng(0))
            answers = tuple(parse(text, hypothesis=hypothesis) for hypothesis in Hypothesis)
            analyses.append(Analysis(answers[0].verdict, 0.5, answers, id=request.id))
        return analyses


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmark" / "toy"
    (folder / "imgs").mkdir(parents=True)
    lines = []
    for index, (kind, regions, artefacts) in enumerate(EDITS):
        Image.new("RGB", (8, 8), (60 * index,) * 3).save(folder / "imgs" / f"{index}.png")
        facts = {"kind": kind.value, "regions": regions, "artefacts": artefacts, "facts": asdict(FACTS)}
        lines.append(json.dumps({"image": f"imgs/{index}.png", **facts}))
    (folder / "pictures.jsonl").write_text("\n".join(lines) + "\n")
    write_benchmark(folder, {f"{i}.png": "real" if edit[0] is Kind.REAL else "fake" for i, edit in enumerate(EDITS)})
    return tmp_path / "benchmark"


def result(root: Path, out: Path, shifted: int) -> Path:
    from ffaa.data.benchmark import load_benchmark

    settings = RunSettings(config={"method": "toy", "benchmark": "toy"}, block_size=2)
    run_jobs(Truthful(shifted), [Job(load_benchmark("toy", root), out, settings)])  # type: ignore[arg-type]
    return out


def scored(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["x", "--results", str(folder), "--benchmark_root", str(root)])
    assert score_answers.main() == 0
    figures: dict[str, Any] = json.loads((folder / "explanation.json").read_text())
    return figures


def test_the_truth_scores_everything(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = scored(result(root, tmp_path / "true", 0), root, monkeypatch)
    free = figures["answers"]["free"]
    assert {figure["accuracy"] for figure in free["facts"].values()} == {1.0}
    assert free["signs"]["accuracy"] == free["regions"]["precision"]["accuracy"] == 1.0
    assert free["regions"]["recall"] == {**free["regions"]["recall"], "n": 2, "n_correct": 2}
    assert free["false_claims"] == {} and free["variety"]["n_different"] == 4
    assert figures["hypotheses"]["disagree"]["n_correct"] == 0
    out = capsys.readouterr().out
    assert "edited part, recall" in out and "edited part: eyes" in out
    page = report.read_run(tmp_path / "true").explanation
    assert page["answers"] == figures["answers"], "the report does not find what was measured"


def test_the_truth_about_another_picture_does_not(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = scored(result(root, tmp_path / "shifted", 1), root, monkeypatch)["answers"]["free"]
    # nose for eyes and eyes for the real one: two names, none right; only the sign of the retouched eyes is.
    assert (free["regions"]["precision"]["n_correct"], free["regions"]["precision"]["n"]) == (0, 2)
    assert (free["signs"]["n_correct"], free["signs"]["n"]) == (1, 4)
    assert sum(free["false_claims"].values()) == 4


def test_answers_are_shown_with_what_is_false_in_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = result(root, tmp_path / "shifted", 1)
    monkeypatch.setattr(sys, "argv", ["x", "--results", str(folder), "--benchmark_root", str(root), "--show", "2"])
    assert score_answers.main() == 0
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| ") and ".png" in row]
    assert len(rows) == 2
    assert rows[0].startswith("| 0.png | real | Signs of retouching: eyes enlarged")
    assert rows[0].endswith(
        "| verdict wrong; sign: Signs of retouching for No signs; region: eyes for None; operation: enlarged for None |"
    )
    assert rows[1].endswith("| verdict right; region: nose for eyes; operation: blurred for enlarged |")


def test_what_cannot_be_scored_is_said(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(InputError, match="no result given"):
        score_answers.main()
    folder = result(root, tmp_path / "out", 0)
    (root / "toy" / "pictures.jsonl").write_text("")
    with pytest.raises(InputError, match="knows no facts"):
        scored(folder, root, monkeypatch)


def test_form_and_text_beside_a_constant_and_a_shuffled_answer(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = scored(result(root, tmp_path / "true", 0), root, monkeypatch)
    assert figures["form"]["free"]["complete"]["accuracy"] == 1.0
    assert figures["form"]["free"]["truncated"]["n_correct"] == figures["form"]["free"]["unparsed"]["n_correct"] == 0
    rouge = figures["text"]["free"]["scores"]["rouge_l"]
    assert rouge["value"] == 1.0 > rouge["shuffled"] > 0 and rouge["constant"] < 1
    # All three answers say the same, so that no hypothesis turns a verdict.
    assert [figures["hypotheses"][way]["n"] for way in ("to_fake", "to_real")] == [1, 3]
    assert figures["hypotheses"]["to_fake"]["n_correct"] == figures["hypotheses"]["to_real"]["n_correct"] == 0
    out = capsys.readouterr().out
    assert "shuffled" in out and "free answers with all fields: 100 [" in out


def test_any_benchmark_with_references_of_its_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = result(root, tmp_path / "true", 0)
    (root / "toy" / "pictures.jsonl").unlink()
    figures = scored(folder, root, monkeypatch)
    assert "answers" not in figures and figures["text"] == {} and figures["form"]["chosen"]["complete"]["n"] == 4
    file = tmp_path / "references.json"
    file.write_text(json.dumps({"0.png": "a plain text", "1.png": ["one", "two"]}))
    arguments = ["x", "--results", str(folder), "--benchmark_root", str(root), "--references", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert score_answers.main() == 0
    out = capsys.readouterr().out
    assert "toy: 2 references" in out and "2 of 4 pictures have a reference" in out
    for wrong in ("[]", '{"0.png": 3}', '{"0.png": " "}', '{"0.png": []}', "{"):
        file.write_text(wrong)
        with pytest.raises(InputError, match="references.json"):
            score_answers.main()
    file.write_text(json.dumps({"0.png": "a", "zero.png": "b"}))
    with pytest.raises(InputError, match="no picture 'zero.png' in the benchmark .1 of 2 names"):
        score_answers.main()
    file.unlink()
    with pytest.raises(InputError, match="no such file: .*references.json"):
        score_answers.main()


def test_references_of_other_pictures_than_the_results(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = result(root, tmp_path / "true", 0)
    lines = (folder / "predictions.jsonl").read_text().splitlines(keepends=True)
    (folder / "predictions.jsonl").write_text("".join(line for line in lines if '"0.png"' in line))
    file = tmp_path / "references.json"
    file.write_text(json.dumps({"1.png": "a plain text"}))
    arguments = ["x", "--results", str(folder), "--benchmark_root", str(root), "--references", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(InputError, match="no reference for any of the 1 pictures"):
        score_answers.main()


def test_results_without_answers_or_with_a_damaged_config(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = result(root, tmp_path / "true", 0)
    config = (folder / "config.yaml").read_text()
    for damage, said in (
        ("limit: abc", "limit must be a number of pictures, or -1 for all, got 'abc'"),
        ("limit: null", "limit must be"),
        ("limit: 0", "limit must be"),
        ("benchmark: 3", "benchmark must be a name, got 3"),
    ):
        kept = "".join(line for line in config.splitlines(keepends=True) if not line.startswith(damage.split()[0]))
        (folder / "config.yaml").write_text(f"{kept}{damage}\n")
        with pytest.raises(InputError, match=said):
            scored(folder, root, monkeypatch)
    (folder / "config.yaml").write_text(config)
    (folder / "predictions.jsonl").write_text("")
    with pytest.raises(InputError, match="holds no answered picture"):
        scored(folder, root, monkeypatch)
    assert not (folder / "explanation.json").exists()
