"""Heat maps measured on a toy benchmark by the model of size tiny."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffaa.data.images import open_image
from ffaa.dialogue.answers import format_answer
from ffaa.methods.ffaa.explain import explain_decision
from ffaa.methods.ffaa.method import Ffaa
from ffaa.metrics.localisation import Square, localisation
from ffaa.reporting.heatmaps import heat_maps
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import Analysis, GeneratedText, InputError, Request, Verdict
from scripts import measure_heatmaps
from scripts.measure_heatmaps import Options, blurred, edit_mask, edited_pictures, figures, maps_of_decision

FACE = PROJECT_ROOT / "playground" / "test_images" / "orl_s01_1.png"
LAYERS = ["layer3", "layer2"]
EDITED = slice(14, 28)
"""Rows and columns of a mask that are edited: a sixteenth of it."""


def _line(name: str, kind: str, regions: list[str]) -> dict[str, Any]:
    real = kind == "real"
    return {
        "id": name,
        "image": f"imgs/{name}.png",
        "mask": None if real else f"masks/{name}.png",
        "kind": kind,
        "label": "real" if real else "fake",
        "regions": regions,
        "artefacts": {"operation": "blurred"},
    }


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Two faces and a blank picture with one edited region, and three pictures that are not to be measured."""
    folder = tmp_path / "toy_set"
    (folder / "imgs").mkdir(parents=True)
    (folder / "masks").mkdir()
    face = open_image(FACE)
    pictures = {
        ("a", "local", "mouth"): face,
        ("b", "local", "nose"): face.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        ("c", "local", "mouth"): Image.new("RGB", (64, 64), (90, 90, 90)),
        ("d", "real", ""): face,
        ("e", "swap", "face"): face,
        ("f", "local", "nose mouth"): face,
    }
    mask = np.zeros((56, 56), np.uint8)
    mask[EDITED, EDITED] = 255
    for (name, _, _), image in pictures.items():
        image.save(folder / "imgs" / f"{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    lines = [_line(name, kind, regions.split()) for name, kind, regions in pictures]
    (folder / "pictures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _texts(*verdicts: Verdict) -> list[GeneratedText]:
    return [GeneratedText(format_answer("A face.", f"It is {said}.", said, 0.9, None), True, 0.3) for said in verdicts]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answers that say fake in place of the model's; gives the ids of the pictures that they were written to."""
    ids: list[str] = []

    def write(_: Ffaa, requests: Sequence[Request], questions: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        ids.extend(request.id for request in requests)
        return [_texts(*[Verdict.FAKE] * len(row)) for row in questions]

    monkeypatch.setattr(Ffaa, "write", write)
    return ids


@pytest.fixture
def measure(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    def run(*arguments: str) -> dict[str, Any]:
        told = ["--benchmark", str(toy), "--model", "tiny", "--device", "cpu", "--dtype", "float32"]
        monkeypatch.setattr(sys, "argv", ["m.py", *told, "--out", str(tmp_path / "heat.json"), *arguments])
        assert measure_heatmaps.main() == 0
        found: dict[str, Any] = json.loads((tmp_path / "heat.json").read_text())
        return found

    return run


def test_a_toy_benchmark_end_to_end(measure: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """With the model's own answers, which say nothing that can be read."""
    found = measure()
    assert [picture["id"] for picture in found["pictures"]] == ["a.png", "b.png", "c.png"]
    assert found["layers"] == LAYERS
    assert set(found["settings"]["fingerprint"]) >= {"mids", "mllm"}
    groups = found["figures"]
    assert {name: group["n"] for name, group in groups.items()} == {"all": 3, "called fake": 0, "mouth": 2, "nose": 1}
    for picture in found["pictures"]:
        assert picture["verdict"] == "unparsed" and 0 < picture["score"] < 1
        assert picture["mask_share"] == pytest.approx(1 / 16, abs=0.005)
        assert list(picture["maps"]["picture"].values()) == pytest.approx([picture["mask_share"]] * 4)
        assert picture["logits"]["layer3"] == pytest.approx(picture["logits"]["layer2"], abs=1e-5)
    blank = found["pictures"][2]
    assert set(blank["maps"]["face"].values()) == {None} and blank["deletion"] == {}
    assert groups["all"]["differences"]["layer3"]["face"]["energy"]["n"] == 2
    assert groups["called fake"]["maps"]["layer3"]["energy"] is None
    out = capsys.readouterr().out
    assert "toy_set, all: 3 forged pictures" in out and "called fake:" not in out
    assert "energy inside, mouth (2): layer3" in out and out.count("P(fake) moved, points") == 2


def test_every_value_is_what_the_method_says(
    toy: Path, measure: Callable[..., dict[str, Any]], written: list[str]
) -> None:
    found = measure("--region", "0.05", "--blur", "0.1")
    assert found["figures"]["called fake"]["n"] == 3
    assert written == ["a.png", "b.png", "c.png"], "nothing is generated to blurred pictures"
    assert measure("--region", "0.05", "--blur", "0.1") == found
    assert len(written) == 3, "the answers were kept"

    meter = measure_heatmaps.Meter(Options(benchmark=toy, model="tiny", device="cpu", dtype="float32"))
    image, texts = open_image(toy / "imgs" / "a.png"), _texts(*[Verdict.FAKE] * 3)
    request = Request(image, "a.png")
    (before,) = meter.method.judge([request], [texts])
    picture = found["pictures"][0]
    assert picture["score"] == pytest.approx(before.score, abs=1e-6)
    assert 1 / (1 + np.exp(-picture["logits"]["layer3"])) == pytest.approx(before.match_score, abs=1e-5)
    maps = heat_maps(meter.explains.explain(request, before), image.size)
    mask = edit_mask(toy / "masks" / "a.png", image.size)
    assert list(maps) == LAYERS
    for layer, heat in maps.items():
        assert picture["maps"][layer] == pytest.approx(localisation(heat, mask), abs=1e-4)
        assert list(picture["deletion"][layer]) == ["hot", "cold", "middle"]
        for hidden in picture["deletion"][layer].values():
            top, left, side = hidden["square"]
            assert side == round(np.sqrt(0.05 * heat.size))
            changed = blurred(image, Square(top, left, side), 0.1)
            (after,) = meter.method.judge([Request(changed, "a.png")], [texts])
            assert hidden["score"] == pytest.approx(abs(after.score - before.score), abs=1e-6)
            # all answers say the same: the match score of the chosen one is its logit's sigmoid
            odds = [np.log(m / (1 - m)) for m in ((x.match_scores or ())[before.chosen] for x in (before, after)) if m]
            assert hidden["logit"] == pytest.approx(odds[0] - odds[1], abs=1e-4)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_map_of_another_logit_is_refused(toy: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict) -> None:
    """The decision's own logit passes, for every verdict; that of another answer does not."""
    meter = measure_heatmaps.Meter(Options(benchmark=toy, model="tiny", device="cpu", dtype="float32"))
    request = Request(open_image(toy / "imgs" / "a.png"), "a.png")
    texts = _texts(*[verdict] * 3) if verdict is not Verdict.UNPARSED else [GeneratedText("?", True, None)] * 3
    (analysis,) = meter.method.judge([request], [texts])
    maps, logits = maps_of_decision(meter.explains, request, analysis)
    assert list(maps) == list(logits) == LAYERS

    def other(method: Ffaa, request: Request, analysis: Analysis) -> Any:
        text = "Image description: none.\nForgery reasoning: quite another answer.\nAnalysis result: fake"
        return explain_decision(method._selector, method._processor, request.image, [text], Verdict.FAKE)

    monkeypatch.setattr(Ffaa, "explain", other)
    with pytest.raises(RuntimeError, match=r"a\.png: maps of the logits"):
        maps_of_decision(meter.explains, request, analysis)


def test_a_blurred_square_leaves_the_rest_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    square = Square(5, 20, 16)
    after = np.asarray(blurred(Image.fromarray(pixels), square, 0.1))
    inside = after[square.pixels]
    assert inside.std() < 0.3 * pixels[square.pixels].std()
    assert inside.mean() == pytest.approx(pixels[square.pixels].mean(), abs=6)
    rest = np.ones((40, 50), bool)
    rest[square.pixels] = False
    assert np.array_equal(after[rest], pixels[rest])


def test_pictures_are_drawn_by_the_seed(toy: Path) -> None:
    def drawn(limit: int, seed: int) -> list[str]:
        return [line["id"] for line in edited_pictures(Options(benchmark=toy, limit=limit, seed=seed))]

    assert drawn(-1, 0) == drawn(9, 5) == ["a", "b", "c"]
    assert drawn(2, 1) == drawn(2, 1) and len(drawn(2, 1)) == 2
    assert {tuple(drawn(1, seed)) for seed in range(20)} == {("a",), ("b",), ("c",)}


def test_what_cannot_be_measured_is_said(toy: Path, tmp_path: Path) -> None:
    lines = [line for line in (toy / "pictures.jsonl").read_text().splitlines() if '"local"' not in line]
    (toy / "pictures.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match="no picture of which one region was edited"):
        edited_pictures(Options(benchmark=toy))
    with pytest.raises(InputError, match="not built yet"):
        edited_pictures(Options(benchmark=tmp_path))
    wrong: list[dict[str, Any]] = [{"limit": 0}, {"block_size": 0}, {"region": 0.5}, {"region": 0.0}, {"blur": 0.0}]
    for options in wrong:
        with pytest.raises(InputError, match=next(iter(options))):
            Options(**options)


def test_figures_are_means_and_paired_differences() -> None:
    def picture(layer: float, face: float | None, moved: float | None) -> dict[str, Any]:
        values = {"layer3": layer, "picture": 0.1, "centre": 0.2, "face": face}
        squares = {name: dict.fromkeys(("score", "logit", "pixels"), moved) for name in ("hot", "cold", "middle")}
        return {
            "maps": {name: dict.fromkeys(measure_heatmaps.FIGURES, value) for name, value in values.items()},
            "deletion": {} if moved is None else {"layer3": {**squares, "cold": {**squares["cold"], "score": 0.0}}},
        }

    found = figures([picture(0.3, 0.5, 0.2), picture(0.5, None, None)], ["layer3"], seed=0)
    assert found["n"] == 2
    assert {name: means["energy"] for name, means in found["maps"].items()} == pytest.approx(
        {"layer3": 0.4, "picture": 0.1, "centre": 0.2, "face": 0.5}
    )
    compared = {name: (of["iou"]["n"], of["iou"]["difference"]) for name, of in found["differences"]["layer3"].items()}
    assert compared == {
        "picture": (2, pytest.approx(0.3)),
        "centre": (2, pytest.approx(0.2)),
        "face": (1, pytest.approx(-0.2)),
    }
    score = found["deletion"]["layer3"]["score"]
    assert (score["hot"], score["cold"], score["middle"]) == (0.2, 0.0, 0.2)
    assert (score["hot_less_cold"]["n"], score["hot_less_cold"]["difference"]) == (1, 0.2)
    assert score["hot_less_middle"]["difference"] == 0.0


def test_curves_begin_with_the_picture_and_end_with_nothing_of_it(measure: Callable[..., dict[str, Any]]) -> None:
    found = measure("--curve_steps", "3")
    picture = found["pictures"][0]
    assert set(picture["curves"]) == {*LAYERS, "centre", "face"} - (
        {"face"} if "face" not in picture["curves"] else set()
    )
    for layer in LAYERS:
        curve = picture["curves"][layer]
        assert len(curve["deletion"]) == len(curve["insertion"]) == 4
        assert curve["deletion"][0] == curve["insertion"][-1]
        assert curve["deletion"][-1] == curve["insertion"][0]
        assert curve["deletion"][0] == pytest.approx(1 / (1 + np.exp(-picture["logits"][layer])), abs=1e-3)
    assert found["figures"]["all"]["curves"][LAYERS[0]]["deletion_area"] is not None
    assert measure()["figures"]["all"]["curves"][LAYERS[0]]["deletion_area"] is None
