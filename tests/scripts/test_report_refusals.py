"""Results of which a page could say what is not so: cut runs, runs on other pictures, damaged files, bad places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ffaa.data.benchmark import write_benchmark
from ffaa.evaluation.runner import data_fingerprint
from ffaa.types import InputError
from scripts import report
from tests.reporting.toy_results import Toy, toy_lines, write_lines
from tests.scripts.test_report import Reader, make


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def built(toy: Toy, name: str, n: int) -> str:
    """A benchmark with its labels; returns what a run on it writes down as ``data``."""
    toy.benchmark(name, n)
    labels = {line["id"]: line["label"] for line in toy_lines(n)}
    return data_fingerprint(write_benchmark(toy.root / "benchmark" / name, labels))


def test_a_summary_of_a_cut_run_does_not_make_it_complete(toy: Toy) -> None:
    folder = toy.run("free_toy", 6)
    (folder / "manifest.json").write_text(json.dumps({"n_pictures": 6}))
    assert report.read_run(folder).complete
    assert "Not all pictures are scored yet" not in make(toy, folder)
    (folder / "manifest.json").write_text(json.dumps({"n_pictures": 7}))
    assert "Not all pictures are scored yet" in make(toy, folder)


def test_runs_on_other_pictures_of_one_name_are_not_compared(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    data = built(toy, "free_toy", 8)
    here = toy.run("free_toy", 8, "here", data=data, limit=-1)
    other = toy.run("free_toy", 8, "other", seed=5, data="0123abcd", limit=-1)
    html = make(toy, here, other, tables=toy.root / "tables")
    assert "The runs on free_toy are not on the same pictures" in html and "Runs against one another" not in html
    assert not (toy.root / "tables" / "comparisons.csv").exists()
    mine, others = Reader(html).data["runs"]
    assert [mine["benchmark"], others["benchmark"]] == [f"free_toy (data {data})", "free_toy (data 0123abcd)"]
    # What lies on this disk are the one's pictures, and nobody's beside the other's answers.
    assert all(row[3] for row in mine["rows"]) and not any(row[3] or row[4] for row in others["rows"])
    said = capsys.readouterr().out
    assert "free_toy (data 0123abcd): " in said and "none is shown" in said and "not shown: not in" not in said


def test_runs_of_another_limit_are_not_compared_where_the_data_is_not_known(toy: Toy) -> None:
    folders = [toy.run("free_toy", 4, f"of_{limit}", limit=limit) for limit in (4, -1)]
    assert "Runs against one another" not in make(toy, *folders)


def test_it_is_said_where_the_benchmark_has_changed_since(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    folder = toy.run("free_toy", 6, data=built(toy, "free_toy", 6), limit=-1)
    assert "The benchmark's folder is not as it was scored" not in make(toy, folder)
    built(toy, "free_toy", 7)
    html = make(toy, folder)
    assert "The benchmark's folder is not as it was scored" in html and "does not hold just" in capsys.readouterr().out
    assert all(row[3] for row in Reader(html).data["runs"][0]["rows"])


def test_pages_that_share_a_folder_keep_their_pictures(toy: Toy) -> None:
    folders = {}
    for name, n in (("free_one", 3), ("free_two", 5)):
        toy.benchmark(name, n)
        folders[name] = toy.run(name, n)
    (toy.root / "benchmark/free_two/imgs/00000.jpg").write_bytes(
        (toy.root / "benchmark/free_one/imgs/00001.jpg").read_bytes()
    )
    assets = toy.root / "page" / "files"
    place = Reader(make(toy, folders["free_one"], assets_dir=assets)).data["places"]["i0"]
    before = (toy.root / "page" / place).read_bytes()
    make(toy, folders["free_two"], assets_dir=assets)
    assert (toy.root / "page" / place).read_bytes() == before


def test_names_of_pictures_beside_the_page_are_urls(toy: Toy) -> None:
    toy.benchmark("free_toy", 1)
    assets = toy.root / "page" / "a#b?c%20"
    (place,) = Reader(make(toy, toy.run("free_toy", 1), assets_dir=assets)).data["places"].values()
    assert place.startswith("a%23b%3Fc%2520/")


@pytest.mark.parametrize("out", ["", ".", "folder"])
def test_a_page_cannot_be_a_folder(toy: Toy, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (toy.root / "folder").mkdir()
    folder = toy.run("free_toy", 2)
    monkeypatch.chdir(toy.root)
    before = sorted(toy.root.rglob("*"))
    monkeypatch.setattr("sys.argv", ["report.py", str(folder), "--out", out, "--assets_dir=folder/files"])
    with pytest.raises(InputError, match="is a folder: name a file"):
        report.main()
    assert sorted(toy.root.rglob("*")) == before


def test_a_file_is_no_folder_for_tables(toy: Toy) -> None:
    (toy.root / "file").touch()
    with pytest.raises(InputError, match="--tables .* is a file"):
        make(toy, toy.run("free_toy", 2), tables=toy.root / "file")
    assert not (toy.root / "page").exists()


def test_a_bad_result_is_left_out_where_it_was_only_searched_out(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    toy.run("free_toy", 3, "good")
    empty, damaged = toy.run("free_toy", 3, "empty"), toy.run("free_toy", 3, "damaged")
    write_lines(empty, [])
    (damaged / "config.yaml").write_text("[")
    sweep = toy.root / "results" / "free_toy" / "sweep"
    sweep.mkdir()
    (sweep / "robustness.json").write_text("{")
    assert len(Reader(make(toy, toy.root / "results")).data["runs"]) == 1
    said = capsys.readouterr().out
    assert said.count("left out: ") == 3 and f"{empty / 'predictions.jsonl'} holds no predictions" in said
    assert "1 run, 3 pictures -> " in said
    for named in (empty, damaged, sweep):
        with pytest.raises(InputError, match=named.name):
            make(toy, toy.root / "results", named)
    write_lines(toy.root / "results/free_toy/good", [])
    with pytest.raises(InputError, match="no result that was found can be read"):
        make(toy, toy.root / "results")


def test_one_is_one(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    toy.benchmark("free_toy", 1)
    html = make(toy, toy.run("free_toy", 1))
    assert "1 run, 1 picture -> " in capsys.readouterr().out and "1 picture, 1 real" in html
