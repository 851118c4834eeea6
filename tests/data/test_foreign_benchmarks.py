from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ffaa.data.benchmark import load_benchmark
from ffaa.data.foreign_benchmarks import Part, read_deepfakebench, read_folder_pair
from ffaa.runtime import EXIT_DONE
from ffaa.types import InputError
from scripts.data import import_benchmark as script


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def videos(label: str, folder: str, names: list[str], frames: int) -> dict[str, Any]:
    return {
        name: {"label": label, "frames": [f"{folder}/frames/{name}/{index:03}.png" for index in range(frames)]}
        for name in names
    }


FF = "FaceForensics++/manipulated_sequences/Deepfakes/c23"
FF_REAL = "FaceForensics++/original_sequences/youtube/c23"
IN_FF_DF = ["FaceForensics++", "FF-DF", "test", "c23", "000_003"]


@pytest.fixture
def bench(tmp_path: Path) -> tuple[Path, Path]:
    """A file in DeepfakeBench's form, paths as its preprocessing on Windows writes them, and its pictures."""
    real, fake = videos("FF-real", FF_REAL, ["000", "003"], 4), videos("FF-DF", FF, ["000_003"], 4)
    sets = {
        "FaceForensics++": {
            "FF-real": {"train": {"c23": {}}, "test": {"c23": real, "c40": {}}},
            "FF-DF": {"train": {"c23": {}}, "test": {"c23": fake, "c40": {}}},
        }
    }
    for of in (real, fake):
        for video in of.values():
            touch(tmp_path / "rgb", *video["frames"])
            video["frames"] = ["datasets\\" + frame.replace("/", "\\") for frame in video["frames"]]
    (tmp_path / "ff.json").write_text(json.dumps(sets))
    return tmp_path / "ff.json", tmp_path / "rgb"


def test_deepfakebench(bench: tuple[Path, Path]) -> None:
    found = read_deepfakebench(*bench, Part())
    assert len(found.labels) == 12 and found.root == bench[1].resolve()
    assert found.labels[f"{FF_REAL}/frames/003/001.png"] == ("real", None)
    assert found.labels[f"{FF}/frames/000_003/000.png"] == ("fake", "FF-DF")
    assert found.groups[f"{FF}/frames/000_003/000.png"] == "FF-DF/000_003" and len(set(found.groups.values())) == 3


def test_frames_are_evenly_spread(bench: tuple[Path, Path]) -> None:
    found = read_deepfakebench(*bench, Part(frames=2))
    assert [Path(key).name for key in found.labels][:2] == ["000.png", "002.png"] and len(found.labels) == 6
    assert len(read_deepfakebench(*bench, Part(frames=-1)).labels) == 12
    with pytest.raises(InputError, match="at least 1"):
        Part(frames=0)
    # As DeepfakeBench's loader: the step is 63 // 32. Spread evenly, they reach the end.
    frames = [str(index) for index in range(63)]
    assert Part().chosen(frames) == frames[:32] and Part().chosen(frames[:32]) == frames[:32]
    spread = [int(frame) for frame in Part(even=True).chosen(frames)]
    assert len(spread) == 32 and spread[0] == 0 and spread[-1] == 61
    assert {after - before for before, after in zip(spread, spread[1:], strict=False)} == {1, 2}


def test_a_set_without_compressions(tmp_path: Path) -> None:
    """Celeb-DF's form, and that of DF40."""
    touch(tmp_path, "Celeb-real/frames/id0/0.png", "Celeb-synthesis/frames/id0_id1/0.png")
    real, fake = "CelebDFv2_real", "CelebDFv2_fake"
    sets = {
        "Celeb-DF-v2": {
            real: {"test": {"id0": {"label": real, "frames": ["./Celeb-real/frames/id0/0.png"]}}},
            fake: {"test": {"id0_id1": {"label": fake, "frames": ["./Celeb-synthesis/frames/id0_id1/0.png"]}}},
        }
    }
    (tmp_path / "cdf.json").write_text(json.dumps(sets))
    found = read_deepfakebench(tmp_path / "cdf.json", tmp_path, Part())
    assert list(found.labels.values()) == [("real", None), ("fake", fake)]


def _set(path: list[str], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(sets: dict[str, Any]) -> None:
        for key in path[:-1]:
            sets = sets[key]
        sets[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "part", "message"),
    [
        (_set(["FaceForensics++"], []), Part(), "the set 'FaceForensics\\+\\+' must be a mapping"),
        (_set(["FaceForensics++", "FF-DF"], {}), Part(), "the class 'FF-DF' must be a mapping"),
        (lambda sets: None, Part("val"), "has no split 'val'; it has test, train"),
        (lambda sets: None, Part(compression="raw"), "has no compression 'raw'"),
        (lambda sets: None, Part("train"), "has no videos in its split 'train'"),
        (_set(["FaceForensics++", "FF-DF", "test", "c23", "000_003"], {"label": 1}), Part(), "'000_003' must have a"),
        (_set(["FaceForensics++", "FF-DF", "test"], [1]), Part(), "videos by name expected"),
        (_set([*IN_FF_DF, "label"], " "), Part(), "'000_003' has the label ' '"),
        (_set([*IN_FF_DF, "label"], "None"), Part(), "'000_003' has the label 'None'"),
        (
            _set([*IN_FF_DF, "frames"], [f"datasets/{FF_REAL}/frames/000/001.png"]),
            Part(),
            "000/001.png' is listed in 'FF-real/000' and, under another label, in 'FF-DF/000_003'",
        ),
    ],
)
def test_what_is_wrong_is_named(
    bench: tuple[Path, Path], change: Callable[[dict[str, Any]], None], part: Part, message: str
) -> None:
    sets = json.loads(bench[0].read_text())
    change(sets)
    bench[0].write_text(json.dumps(sets))
    with pytest.raises(InputError, match=message) as error:
        read_deepfakebench(*bench, part)
    assert "\n" not in str(error.value) and str(bench[0]) in str(error.value)


def test_pictures_elsewhere_and_no_json(bench: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not below"):
        read_deepfakebench(bench[0], tmp_path / "nothing", Part())
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="not a JSON file"):
        read_deepfakebench(tmp_path / "bad.json", bench[1], Part())
    with pytest.raises(InputError, match="cannot read"):
        read_deepfakebench(tmp_path / "none.json", bench[1], Part())


def test_a_pair_of_folders(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png", "real/deep/b.JPG", "real/notes.txt", "fake/c.png")
    assert read_folder_pair(tmp_path).labels == {"real/a.png": "real", "real/deep/b.JPG": "real", "fake/c.png": "fake"}
    (tmp_path / "fake" / "c.png").unlink()
    with pytest.raises(InputError, match="no pictures in fake/"):
        read_folder_pair(tmp_path)
    touch(tmp_path, "fake/swap/c.png", "fake/edit/d.png")
    assert read_folder_pair(tmp_path).labels["fake/swap/c.png"] == ("fake", "swap")


def test_links_and_notes_beside_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "pair/real/a.png", "pair/real/._a.png", "pair/real/.cache/b.png", "pair/fake/c.png", "far/d.png")
    pair = tmp_path / "pair"
    assert list(read_folder_pair(pair).labels) == ["real/a.png", "fake/c.png"]
    (pair / "real" / "same.png").symlink_to("a.png")
    assert "real/same.png" in read_folder_pair(pair).labels
    for name in ("x.png", "y.png"):
        (pair / "fake" / name).symlink_to(tmp_path / "far" / "d.png")
    with pytest.raises(InputError, match="links out of this folder or to nothing: 2, the first 'fake/x.png'"):
        read_folder_pair(pair)
    for name in ("x.png", "y.png"):
        (pair / "fake" / name).unlink()
    (pair / "real" / "more").symlink_to(tmp_path / "far", target_is_directory=True)
    with pytest.raises(InputError, match="folders that are links: 1, the first 'real/more'"):
        read_folder_pair(pair)
    (pair / "real" / "more").unlink()
    (pair / "fake" / "c.png").unlink()
    (pair / "fake").rmdir()
    with pytest.raises(InputError, match="has no folder fake/"):
        read_folder_pair(pair)
    (pair / "fake").symlink_to(tmp_path / "far", target_is_directory=True)
    with pytest.raises(InputError, match="fake is a link out of"):
        read_folder_pair(pair)


def test_names_that_no_benchmark_can_have(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png", "fake/None/c.png")
    with pytest.raises(InputError, match="has a folder fake/None"):
        read_folder_pair(tmp_path)
    touch(tmp_path, "fake/\udcff.png")
    with pytest.raises(InputError, match="no UTF-8: 1, the first 'fake/.udcff.png'"):
        read_folder_pair(tmp_path)


def import_into(out: Path, *arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["import_benchmark.py", f"--out={out}", *arguments])
        return int(script.main())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("groups", "cannot be a benchmark's"),
        ("Groups", "cannot be a benchmark's"),
        ("a,b", "cannot be a benchmark's"),
        (" a", "cannot be a benchmark's"),
        ("..", "cannot be a benchmark's"),
        ("-a", "cannot be a benchmark's"),
        *((name, "published set.*--published 1") for name in ("dfdc", "MA", "multiattack")),
    ],
)
def test_names_that_would_mislead_are_refused(tmp_path: Path, name: str, message: str) -> None:
    touch(tmp_path / "pair", "real/a.png", "fake/b.png")
    with pytest.raises(InputError, match=message):
        import_into(tmp_path / "out", f"--source={tmp_path / 'pair'}", f"--name={name}")
    assert not (tmp_path / "out").exists()


def test_a_published_set_may_have_its_name(tmp_path: Path) -> None:
    touch(tmp_path / "pair", "real/a.png", "fake/b.png")
    assert import_into(tmp_path, f"--source={tmp_path / 'pair'}", "--name=dfdc", "--published=1") == EXIT_DONE
    assert len(load_benchmark("dfdc", tmp_path).items) == 2


def test_nothing_half_made_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "pair", "real/a.png", "fake/b.png")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(script, "write_benchmark", full)
    with pytest.raises(OSError, match="No space"):
        import_into(tmp_path / "out", f"--source={tmp_path / 'pair'}", "--name=mine")
    assert not (tmp_path / "out" / "mine").exists() and (tmp_path / "pair" / "real" / "a.png").is_file()
    with pytest.raises(InputError, match="no such folder or file: .*nowhere"):
        import_into(tmp_path / "out", f"--source={tmp_path / 'nowhere'}", "--name=mine")


def test_importing_links_and_copies_nothing(
    bench: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "benchmark"

    def call(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["import_benchmark.py", f"--out={out}", *arguments])
        return int(script.main())

    assert call("--source", str(bench[0]), "--images", str(bench[1]), "--name=ff", "--frames=1") == EXIT_DONE
    assert "3 pictures of 3 videos (2 real, 1 fake)" in capsys.readouterr().out
    loaded = load_benchmark("ff", out)
    assert (out / "ff" / "imgs").is_symlink() and [item.group for item in loaded.items] == [
        "FF-real/000", "FF-real/003", "FF-DF/000_003",
    ]  # fmt: skip
    touch(tmp_path / "pair", "real/a.png", "fake/b.png")
    assert call("--source", str(tmp_path / "pair"), "--name=pair") == EXIT_DONE
    assert [item.label for item in load_benchmark("pair", out).items] == ["real", "fake"]
    for arguments, message in (
        (["--source", str(tmp_path / "pair"), "--name=pair"], "there already"),
        (["--source", str(bench[0]), "--name=x"], "--images FOLDER"),
        (["--source", str(tmp_path / "pair")], "--source PATH --name NAME"),
        (["--source", str(tmp_path / "pair"), "--name=../x"], "cannot be a benchmark's"),
    ):
        with pytest.raises(InputError, match=message):
            call(*arguments)
