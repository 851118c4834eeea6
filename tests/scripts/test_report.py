"""Results to a page: what is found, what is refused, what the page holds, and that nothing of torch is needed."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ffaa.data.benchmark import write_benchmark
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import InputError
from scripts import report, score_answers, score_subgroups
from tests.reporting.toy_results import Toy, toy_lines, write_lines


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def make(toy: Toy, *results: Path, **options: Any) -> str:
    out = toy.root / "page" / "report.html"
    flags = [f"--{name}={value}" for name, value in options.items()]
    arguments = [*map(str, results), f"--benchmark_root={toy.root / 'benchmark'}", f"--out={out}", *flags]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["report.py", *arguments])
        assert report.main() == 0
    return out.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Every element with its attributes, and the text of scripts by id."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._script = str(dict(attrs).get("id")) if tag in ("script", "style") else None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts["data"])
        return found


def test_a_run_becomes_a_page_that_needs_nothing_else(toy: Toy) -> None:
    toy.benchmark("free_toy", 12)
    folder = toy.run("free_toy", 12)
    toy.heat_maps(folder, 12)
    html = make(toy, folder)
    read = Reader(html)
    for tag, attributes in read.elements:
        assert tag not in ("link", "iframe", "object") or str(attributes.get("href")).startswith("data:")
        assert "src" not in attributes or str(attributes["src"]).startswith("data:")
        assert tag != "img" or attributes.get("alt")
        assert not any(name.startswith("on") for name in attributes)
        if tag == "a":
            assert re.match(r"#|data:", str(attributes["href"]))
    assert "http://" not in re.sub(r'"http://www\.w3\.org/2000/svg"', "", html) and "https://" not in html
    assert "Keep this page to yourself" not in html
    rows = read.data["runs"][0]["rows"]
    assert [row[0] for row in rows] == [f"{n:05d}.jpg" for n in range(12)]
    keys = {key for row in rows for key in (row[3], row[4], *row[5]) if key}
    assert len(keys) == 12 + 6 + 24 and all(read.scripts[key].startswith("data:image/webp;base64,") for key in keys)
    assert rows[0][4] is None and rows[1][4] is not None


def test_landmarks_headings_and_tables_are_named(toy: Toy) -> None:
    toy.benchmark("free_toy", 8)
    read = Reader(make(toy, toy.run("free_toy", 8)))
    tags = [tag for tag, _ in read.elements]
    assert {"header", "nav", "main", "form", "dialog", "caption"} <= set(tags) and tags.count("h1") == 1
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in read.elements if tag == "th")
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in read.elements:
        assert tag != "section" or attributes["aria-labelledby"] in ids
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or (attributes["role"] == "img" and attributes["aria-label"])
        if tag == "a" and str(attributes["href"]).startswith("#"):
            assert str(attributes["href"])[1:] in ids


def test_only_the_pages_own_script_may_run(toy: Toy) -> None:
    toy.benchmark("free_toy", 4)
    read = Reader(make(toy, toy.run("free_toy", 4)))
    policy = next(str(a["content"]) for tag, a in read.elements if a.get("http-equiv"))
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    digest = base64.b64encode(hashlib.sha256(read.scripts["None"].encode()).digest()).decode()
    style, script = read.scripts["None"].split('"use strict"', 1)
    for kind, text in (("style", style), ("script", '"use strict"' + script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_text_of_a_model_is_no_markup(toy: Toy) -> None:
    toy.benchmark("free_toy", 4)
    folder = toy.run("free_toy", 4)
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \ud800"
    lines = toy_lines(4)
    lines[0]["answers"][0] |= {"text": bad, "question": bad}
    lines[1] |= {"forgery_type": bad, "id": "a\"b'<b>.jpg"}
    lines[2] = {"id": "x.jpg", "label": "real", "status": "failed", "error": bad}
    write_lines(folder, lines)
    (folder / "summary.json").unlink()
    (folder / "config.yaml").write_text(json.dumps({"benchmark": "free_toy", "method": bad[:-1], "model": bad[:-1]}))
    read = Reader(make(toy, folder))
    assert "alert" not in "".join(f"{tag}{a}" for tag, a in read.elements if tag in ("script", "img"))
    assert [tag for tag, _ in read.elements].count("img") == 0
    assert bad in read.data["strings"] and read.data["runs"][0]["rows"][1][0] == "a\"b'<b>.jpg"


def test_figures_are_those_of_the_summary(toy: Toy) -> None:
    toy.benchmark("free_toy", 40)
    folder = toy.run("free_toy", 40)
    make(toy, folder, tables=toy.root / "tables")
    figures = json.loads((folder / "summary.json").read_text())["decisions"]["method"]
    rows = list(csv.DictReader(io.StringIO((toy.root / "tables" / "scores.csv").read_text())))
    low, high = figures["accuracy_interval"]
    assert rows[0]["ACC"] == f"{100 * figures['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert rows[0]["real / fake"] == "20 / 20" and rows[0]["benchmark"] == "free_toy"
    names = {path.name for path in (toy.root / "tables").iterdir()}
    assert {"scores.md", "scores.tex", "free-toy-run-decisions.csv", "free-toy-run-groups.tex"} <= names
    assert r"\toprule" in (toy.root / "tables" / "scores.tex").read_text()


def test_groups_of_people_are_on_the_page_while_they_are_of_its_pictures(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.benchmark("free_toy", 12)
    folder = toy.run("free_toy", 12)
    metadata = toy.root / "people.json"
    metadata.write_text(json.dumps({f"{n:05d}.jpg": {"age": 20 + 30 * (n % 3 == 0)} for n in range(12)}))
    monkeypatch.setattr(sys, "argv", ["x", "--results", str(folder), "--metadata", str(metadata)])
    assert score_subgroups.main() == 0
    figures = json.loads((folder / "subgroups.json").read_text())["attributes"]["age"]
    html = make(toy, folder, tables=toy.root / "tables")
    assert "By group of people" in html and "Few people make wide intervals" in html
    assert "Estimated groups" not in html
    rows = list(csv.DictReader(io.StringIO((toy.root / "tables" / "free-toy-run-people.csv").read_text())))
    assert [row["people"] for row in rows] == ["age: under 30", "age: 45 and over"]
    assert [row["number"] for row in rows] == ["8", "4"]  # without groups.json each picture is a person
    for row, group in zip(rows, figures.values(), strict=True):
        assert row["ACC"].startswith(f"{100 * group['accuracy']:.1f} [")

    lines = toy_lines(12)
    lines[0]["verdict"] = "real" if lines[0]["verdict"] == "fake" else "fake"
    write_lines(folder, lines)
    assert "By group of people" not in make(toy, folder)
    (folder / "subgroups.json").write_text("{")
    assert "By group of people" not in make(toy, folder)
    assert capsys.readouterr().out.count("score_subgroups.py makes it anew") == 2


def test_what_answers_claim_is_on_the_page_while_it_is_of_its_predictions(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.benchmark("free_toy", 12)
    folder = toy.run("free_toy", 12)
    write_benchmark(toy.root / "benchmark" / "free_toy", {line["id"]: line["label"] for line in toy_lines(12)})
    references = toy.root / "references.json"
    references.write_text(json.dumps({f"{n:05d}.jpg": "a face, signs" for n in range(5)}))
    arguments = [
        "--results",
        str(folder),
        "--benchmark_root",
        str(toy.root / "benchmark"),
        "--references",
        str(references),
    ]
    monkeypatch.setattr(sys, "argv", ["x", *arguments])
    assert score_answers.main() == 0
    figures = json.loads((folder / "explanation.json").read_text())
    html = make(toy, folder, tables=toy.root / "tables")
    assert "What the answers claim" in html and "What the answers share with references" in html
    rows = list(csv.DictReader(io.StringIO((toy.root / "tables" / "free-toy-run-claims.csv").read_text())))
    complete = figures["form"]["chosen"]["complete"]
    # Nothing is known of these pictures: only how whole their answers are.
    assert [row["claim"] for row in rows] == ["all fields filled"]
    assert rows[0]["chosen answer"].endswith(f"({complete['n_correct']}/12)")
    shared = list(csv.DictReader(io.StringIO((toy.root / "tables" / "free-toy-run-references.csv").read_text())))
    value = figures["text"]["free"]["scores"]["rouge_l"]["value"]
    assert {row["metric"]: row["free answer"] for row in shared}["rouge_l"] == f"{value:.3f}"

    for damage in ("form", "hypotheses", "text"):
        (folder / "explanation.json").write_text(json.dumps({key: figures[key] for key in figures if key != damage}))
        assert "What the answers claim" not in make(toy, folder)
    (folder / "explanation.json").write_text(json.dumps(figures | {"answers": []}))
    assert "What the answers claim" not in make(toy, folder)
    (folder / "explanation.json").write_text(json.dumps(figures))
    write_lines(folder, toy_lines(12, seed=1))
    assert "What the answers claim" not in make(toy, folder)
    assert capsys.readouterr().out.count("score_answers.py makes it anew") == 5


def test_figures_are_made_anew_where_they_are_not_those_of_the_predictions(toy: Toy) -> None:
    folder = toy.run("free_toy", 10)
    write_lines(folder, toy_lines(6))
    run = report.read_run(folder)
    assert run.summary["n"] == 6 and run.complete
    (folder / "summary.json").unlink()
    assert not report.read_run(folder).complete


def test_runs_on_the_same_pictures_are_compared(toy: Toy) -> None:
    toy.benchmark("free_toy", 30)
    first, second = toy.run("free_toy", 30, "one"), toy.run("free_toy", 30, "two", seed=5)
    html = make(toy, first, second, tables=toy.root / "tables")
    rows = list(csv.DictReader(io.StringIO((toy.root / "tables" / "comparisons.csv").read_text())))
    assert len(rows) == 1 and rows[0]["runs"] == "A − B" and rows[0]["pictures"] == "30"
    right = [[line["verdict"] == line["label"] for line in toy_lines(30, seed)] for seed in (0, 5)]
    only = [sum(a and not b for a, b in zip(*side, strict=True)) for side in (right, right[::-1])]
    assert rows[0]["right alone"] == f"{only[0]} / {only[1]}"
    assert "A: one" in html and "B: two" in html
    data = Reader(html).data
    differing = [row[0] for row in data["runs"][0]["rows"] if data["disagreements"].index("runs differ") in row[12]]
    said = [[line["verdict"] for line in toy_lines(30, seed)] for seed in (0, 5)]
    assert differing == [f"{n:05d}.jpg" for n in range(30) if said[0][n] != said[1][n]]


def test_published_figures_stand_beside_the_real_sets_only(toy: Toy) -> None:
    names = ("dpf", "dfd", "dfdc", "pgc", "wfir", "mffdi")
    html = make(toy, *(toy.run(name, 10) for name in names))
    assert "UIA-ViT, published" in html and "55.5°" in html and "sACC, six" in html
    assert html.count('class="dot hollow') > 5
    free = make(toy, *(toy.run(f"free_{name}", 10) for name in names))
    assert "published" not in free and "UIA-ViT" not in free and "chart radar" in free


def test_robustness_is_drawn_where_it_is_given(toy: Toy) -> None:
    folder = toy.run("free_toy", 8)
    curves = {"jpeg": {"levels": [0, 1, 2], "acc": [0.9, 0.8, 0.6], "auc": [0.9, None, 0.5]}}
    sweep = folder.parent / "robustness-ffaa-mini"
    sweep.mkdir()
    (sweep / "robustness.json").write_text(json.dumps(curves))
    html = make(toy, folder, sweep)
    assert "free_toy, robustness-ffaa-mini" in html and "jpeg, AUC" in html
    assert "Robustness" not in make(toy, folder)
    wrong: tuple[dict[str, Any], ...] = ({"jpeg": {}}, {"jpeg": {"levels": [1], "acc": [1, 2]}})
    for bad in wrong:
        (sweep / "robustness.json").write_text(json.dumps(bad))
        with pytest.raises(InputError, match="jpeg"):
            report.read_curves(sweep / "robustness.json")


def test_a_folder_of_results_is_taken_whole_and_without_a_sweep(toy: Toy) -> None:
    for name in ("a", "b"):
        toy.run("free_toy", 4, name)
    toy.run("free_toy", 4, "c", degrade="jpeg@5")
    (toy.run("free_other", 4, "unfinished") / "summary.json").unlink()
    found = report.find_folders((str(toy.root / "results"),)).runs
    assert [path.name for path in found] == ["a", "b"]
    assert report.find_folders((str(toy.root / "results" / "free_toy"),)).runs == found
    assert [path.name for path in report.find_folders((str(toy.root / "results/free_toy/c"),)).runs] == ["c"]


@pytest.mark.parametrize(
    ("named", "said"),
    [((), "no result given"), (("nowhere",), "no such result folder: nowhere"), ((".",), "holds neither")],
)
def test_what_is_no_result_is_refused(
    named: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        report.find_folders(named)


def test_pictures_that_are_not_there_are_said_and_the_rest_stands(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    toy.benchmark("free_toy", 6)
    (toy.root / "benchmark/free_toy/imgs/00003.jpg").write_bytes(b"no picture")
    (toy.root / "benchmark/free_toy/imgs/00004.jpg").unlink()
    html = make(toy, toy.run("free_toy", 6))
    said = capsys.readouterr().out
    assert f"1 of 6 pictures not shown: not in {toy.root / 'benchmark'}\n" in said
    assert "1 of 6 pictures not shown: damaged or no pictures\n" in said
    assert [row[3] is None for row in Reader(html).data["runs"][0]["rows"]] == [False, False, False, True, True, False]
    assert make(toy, toy.run("free_gone", 4))


def test_it_is_said_where_the_model_saw_other_pictures_than_are_shown(toy: Toy) -> None:
    toy.benchmark("mine", 4)
    plain, changed = toy.run("mine", 4), toy.run("mine", 4, "b", degrade="jpeg:30", crop_margin=0.3)
    assert "The model saw them changed" not in make(toy, plain)
    html = make(toy, changed)
    assert "corrupted (jpeg:30) and cropped to the largest face" in html[html.index("The model saw them changed") :]


def test_pictures_of_people_are_not_to_be_passed_on(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Keep this page to yourself" in make(toy, toy.run("mini_toy", 4))
    assert "keep it on your own disk" in capsys.readouterr().out


def test_pictures_beside_the_page(toy: Toy) -> None:
    toy.benchmark("free_toy", 6)
    folder = toy.run("free_toy", 6)
    data = Reader(make(toy, folder, assets_dir=toy.root / "page" / "report_files")).data
    places = [data["places"][row[3]] for row in data["runs"][0]["rows"]]
    assert len(set(places)) == 6 and all((toy.root / "page" / place).is_file() for place in places)
    with pytest.raises(InputError, match="must lie in the page's folder"):
        make(toy, folder, assets_dir=toy.root / "elsewhere")
    assert not (toy.root / "elsewhere").exists()


def test_degenerate_runs_have_a_page_too(toy: Toy) -> None:
    toy.benchmark("free_toy", 3)
    folder = toy.run("free_toy", 3)
    (folder / "summary.json").unlink()
    failed = {"id": "00000.jpg", "label": "real", "status": "failed", "error": "no face"}
    one = toy_lines(3)[1]
    for lines in ([failed], [one], [one | {"match_scores": None, "probability": None, "uncertain": None}, failed]):
        write_lines(folder, lines)
        assert "<h1>free_toy</h1>" in make(toy, folder)
    write_lines(folder, [])
    with pytest.raises(InputError, match="no predictions"):
        report.read_run(folder)


def test_no_torch(toy: Toy) -> None:
    toy.benchmark("free_toy", 4)
    folder = toy.run("free_toy", 4)
    code = (
        "import sys; sys.argv = ['report.py', *sys.argv[1:]]; from scripts import report; code = report.main(); "
        "print('torch' in sys.modules, 'transformers' in sys.modules); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, str(folder), f"--benchmark_root={toy.root / 'benchmark'}"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["False", "False"] and (folder / "report.html").is_file()
