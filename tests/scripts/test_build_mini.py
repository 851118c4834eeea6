"""The training set's builder: other questions to the same pictures, beside the first ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ffaa.config import load_yaml
from ffaa.forge.dataset import PICTURES, RECIPE, RecipeBook, recipe_text
from ffaa.types import InputError
from scripts.data import build_mini

FACTS = {"brightness": 90.0, "sharpness": 500.0, "background": 200.0, "saturation": 80.0, "yaw": -0.5, "mouth": 0.3}
FACTS |= {"sharpness_ratio": 0.8, "tone_difference": 20.0}


RECIPES = "splits: {training: {recipe: {faces: orl_faces, people: free, seed: 1, counts: {real: 200}}}}\n"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A set whose pictures are there already."""
    out = tmp_path / "data"
    (out / "training").mkdir(parents=True)
    lines: list[dict[str, Any]] = [
        {
            "id": f"{n:05d}", "image": f"imgs/{n:05d}.jpg", "mask": None, "kind": "real", "label": "real",
            "forgery_type": "None", "person": f"p{n}", "source": "x", "donor": None, "regions": [], "artefacts": {},
            "facts": FACTS,
        }
        for n in range(200)
    ]  # fmt: skip
    (out / "training" / PICTURES).write_text("\n".join(map(json.dumps, lines)) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPES)
    split = load_yaml(tmp_path / "recipe.yaml", RecipeBook).splits["training"]
    (out / "training" / RECIPE).write_text(recipe_text(split))
    return out


def build(built: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    recipes = built.parent / "recipe.yaml"
    monkeypatch.setattr(sys, "argv", ["x", "--recipes", str(recipes), "--out", str(built), *options])
    assert build_mini.main() == 0


def hypotheses(built: Path, name: str) -> list[str]:
    return [json.loads(line)["extra"]["hypothesis"] for line in (built / "training" / name).read_text().splitlines()]


def test_another_share_of_wrong_presumptions_changes_nothing_else(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(built, monkeypatch)
    shipped = (built / "training" / "records.jsonl").read_bytes()
    for percent in (0, 10, 25):
        build(built, monkeypatch, "--records", f"records-wrong{percent}.jsonl", "--wrong_share", str(percent / 100))
    assert (built / "training" / "records.jsonl").read_bytes() == shipped
    none, tenth, quarter = (hypotheses(built, f"records-wrong{percent}.jsonl") for percent in (0, 10, 25))
    assert none.count("fake") == 0 < tenth.count("fake") < quarter.count("fake")
    asked = [at for at, hypothesis in enumerate(none) if hypothesis != "none"]
    for others in (tenth, quarter):
        assert [at for at, hypothesis in enumerate(others) if hypothesis != "none"] == asked
    # Who is asked wrongly at the smaller share is so at the greater one too.
    assert all(quarter[at] == "fake" for at in range(200) if tenth[at] == "fake")


@pytest.mark.parametrize(
    "name", ["a/b.jsonl", "records", "records.json", "pictures.jsonl", "answers.jsonl", "records/x.jsonl"]
)
def test_records_are_a_file_in_the_set(name: str, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="must be a file name"):
        build(built, monkeypatch, "--records", name)


def test_pictures_of_another_recipe_are_refused(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (built.parent / "recipe.yaml").write_text(RECIPES.replace("seed: 1", "seed: 2"))
    with pytest.raises(InputError, match="made by another recipe"):
        build(built, monkeypatch)
    assert not (built / "training" / "records.jsonl").exists()
    (built / "training" / RECIPE).unlink()
    build(built, monkeypatch)
    assert "does not say by which recipe" in capsys.readouterr().out
