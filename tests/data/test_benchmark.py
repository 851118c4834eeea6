"""The published benchmark layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ffaa.data.benchmark import list_benchmarks, load_benchmark, read_groups, write_benchmark
from ffaa.types import InputError


def _make(root: Path, name: str, labels: Any, pictures: tuple[str, ...] = ("a.png", "b.png"), file: str = "") -> Path:
    (root / name / "imgs").mkdir(parents=True)
    for picture in pictures:
        (root / name / "imgs" / picture).touch()
    text = labels if isinstance(labels, str) else json.dumps(labels)
    (root / name / f"{file or name}.json").write_text(text)
    return root / name


def test_plain_labels_in_the_order_of_the_file(tmp_path: Path) -> None:
    folder = _make(tmp_path, "dfd", {"b.png": "fake", "a.png": "real"})
    benchmark = load_benchmark("dfd", tmp_path)
    assert benchmark.name == "dfd" and not benchmark.has_types
    assert [(i.id, i.label, i.forgery_type) for i in benchmark.items] == [
        ("b.png", "fake", None),
        ("a.png", "real", None),
    ]
    assert benchmark.items[0].path == folder / "imgs" / "b.png"


def test_two_part_labels(tmp_path: Path) -> None:
    _make(tmp_path, "anything", {"a.png": ["fake", " Identity swap "], "b.png": ["real", "None"]})
    benchmark = load_benchmark("anything", tmp_path)
    assert benchmark.has_types
    assert [i.forgery_type for i in benchmark.items] == ["Identity swap", None]


@pytest.mark.parametrize("folder", ["ma", "multiattack"])
@pytest.mark.parametrize("asked", ["ma", "multiattack"])
@pytest.mark.parametrize("file", ["ma", "multiattack"])
def test_both_names_of_multi_attack(tmp_path: Path, folder: str, asked: str, file: str) -> None:
    _make(tmp_path, folder, {"a.png": ["real", "None"]}, file=file)
    assert load_benchmark(asked, tmp_path).name == folder


def test_a_folder_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _make(tmp_path, "mine", {"a.png": "real"})
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    for name in (str(folder), f"{folder}/", "../mine", ".", f"{tmp_path}/link"):
        assert load_benchmark(name, tmp_path / "nowhere").name == "mine"


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown benchmark 'free_mas'.*none"):
        load_benchmark("free_mas", tmp_path)
    _make(tmp_path, "free_ma", {"a.png": "real"})
    _make(tmp_path, "dfdc", {"a.png": "real"})
    (tmp_path / "no_benchmark").mkdir()
    assert list_benchmarks(tmp_path) == ["dfdc", "free_ma"]
    with pytest.raises(InputError, match="did you mean free_ma.*there are: dfdc, free_ma"):
        load_benchmark("free_mas", tmp_path)
    for name in ("", "..", "no/such/folder", "no_benchmark"):
        with pytest.raises(InputError):
            load_benchmark(name, tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("{", "not a JSON file"),
        ("\xff", "not a JSON file|expected"),
        ("[" * 100_000, "not a JSON file"),
        (["a.png"], "got a list"),
        ({}, "names no pictures"),
        ('{"a.png": "real", "a.png": "fake"}', "'a.png' stands there twice"),
        ({"a.png": "Real"}, "'a.png': the label must be"),
        ({"a.png": 1}, "'a.png': the label must be"),
        ({"a.png": None}, "'a.png': the label must be"),
        ({"a.png": {"label": "real"}}, "'a.png': the label must be"),
        ({"a.png": ["real"]}, "'a.png': the label must be"),
        ({"a.png": ["fake", "x", "y"]}, "'a.png': the label must be"),
        ({"a.png": [["fake"], "x"]}, "'a.png': the label must be"),
        ({"a.png": ["fake", ""]}, "'a.png': the forgery type"),
        ({"a.png": ["fake", 3]}, "'a.png': the forgery type"),
        ({"a.png": ["fake", " none"]}, "'a.png': a fake has a forgery type"),
        ({"a.png": "real", "b.png": ["fake", "x"]}, "'b.png': some pictures have a forgery type"),
        ({"a.png": ["fake", "x"], "b.png": "real"}, "'b.png': some pictures have a forgery type"),
        ({"absent.png": "real"}, "'absent.png' is not in"),
        ({"sub": "real"}, "'sub' is not in"),
        ({"../bad.json": "real"}, "leaves the folder"),
        ({"/etc/passwd": "real"}, "is absolute"),
        ({"link.png": "real"}, "by a symbolic link"),
        ({"": "real"}, "names no file"),
        ({"a.png": "real", "./a.png": "fake"}, "the same picture"),
        ({"a" * 300 + ".png": "real"}, "cannot be resolved"),
        ('{"\\ud800.png": "real"}', "cannot be resolved"),
    ],
)
def test_bad_files(tmp_path: Path, labels: Any, message: str) -> None:
    folder = _make(tmp_path, "bad", labels)
    (folder / "imgs" / "sub").mkdir()
    (tmp_path / "outside.png").touch()
    (folder / "imgs" / "link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(InputError, match=message) as caught:
        load_benchmark("bad", tmp_path)
    assert "bad.json" in str(caught.value) and "\n" not in str(caught.value)


def test_no_pictures_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.json").write_text('{"a.png": "real"}')
    with pytest.raises(InputError, match="no folder imgs"):
        load_benchmark("x", tmp_path)


def test_write_and_read_back(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "w" / "imgs").mkdir(parents=True, exist_ok=True)
        (tmp_path / "w" / "imgs" / name).touch()
    typed = write_benchmark(tmp_path / "w", {"b.png": ("real", None), "a.png": ("fake", "Identity swap")})
    assert typed == load_benchmark("w", tmp_path)
    assert json.loads((tmp_path / "w" / "w.json").read_text()) == {
        "b.png": ["real", "None"],
        "a.png": ["fake", "Identity swap"],
    }
    plain = write_benchmark(tmp_path / "w", {"a.png": "fake"})
    assert plain == load_benchmark("w", tmp_path) and not plain.has_types
    before = (tmp_path / "w" / "w.json").read_text()
    bad: list[dict[str, str | tuple[str, str | None]]] = [
        {},
        {"absent.png": "real"},
        {"a.png": "true"},
        {"a.png": "real", "b.png": ("fake", "x")},
    ]
    for labels in bad:
        with pytest.raises(InputError):
            write_benchmark(tmp_path / "w", labels)
    assert (tmp_path / "w" / "w.json").read_text() == before


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    for name in ("groups", "w"):
        (tmp_path / name / "imgs").mkdir(parents=True)
        (tmp_path / name / "imgs" / "a.png").touch()
    with pytest.raises(InputError, match="cannot be called 'groups'"):
        write_benchmark(tmp_path / "groups", {"a.png": "real"})
    for labels, groups in (({"a.png": ("fake", "\ud800")}, None), ({"a.png": "real"}, {"a.png": "\ud800"})):
        with pytest.raises(InputError, match="no Unicode text"):
            write_benchmark(tmp_path / "w", labels, groups)
    assert [path.name for path in tmp_path.rglob("*.json")] == []


def test_a_file_of_groups_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^no such file: .*nowhere.json$"):
        read_groups(tmp_path / "nowhere.json", {"a.png"})


def test_groups_beside_the_labels(tmp_path: Path) -> None:
    folder = _make(tmp_path, "dfd", {"b.png": "fake", "a.png": "real"})
    assert [item.group for item in load_benchmark("dfd", tmp_path).items] == [None, None]
    (folder / "groups.json").write_text(json.dumps({"a.png": "anna"}))
    assert [item.group for item in load_benchmark("dfd", tmp_path).items] == [None, "anna"]
    for groups, message in (
        ({"c.png": "anna"}, "no picture 'c.png'"),
        ({"a.png": 3}, "must be a text"),
        ({"a.png": " "}, "must be a text"),
        (["a.png"], "got a list"),
    ):
        (folder / "groups.json").write_text(json.dumps(groups))
        with pytest.raises(InputError, match=message):
            load_benchmark("dfd", tmp_path)


def test_written_groups_are_read_back_and_old_ones_go(tmp_path: Path) -> None:
    (tmp_path / "w" / "imgs").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (tmp_path / "w" / "imgs" / name).touch()
    written = write_benchmark(tmp_path / "w", {"a.png": "real", "b.png": "fake"}, {"b.png": "video 1"})
    assert written == load_benchmark("w", tmp_path) and written.items[1].group == "video 1"
    write_benchmark(tmp_path / "w", {"a.png": "real", "b.png": "fake"})
    assert load_benchmark("w", tmp_path).items[1].group is None
