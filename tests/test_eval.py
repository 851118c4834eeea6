"""The doors eval.py and eval_llava.py at size tiny."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eval as eval_door
import eval_llava
from ffaa.evaluation.predictions import read_lines
from ffaa.runtime import EXIT_DONE, EXIT_PARTIAL, PROJECT_ROOT
from ffaa.types import InputError
from tests.evaluation.toy import make_benchmark


@pytest.fixture
def roots(tmp_path: Path) -> list[str]:
    make_benchmark(tmp_path / "benchmark", 6, "toy_one", typed=True)
    make_benchmark(tmp_path / "benchmark", 4, "toy_two")
    return [f"--benchmark_root={tmp_path / 'benchmark'}", f"--result_root={tmp_path / 'results'}", "--device=cpu"]


TINY = ["--model=tiny", "--dtype=float32", "--max_new_tokens=6"]


def predictions(folder: Path) -> list[dict[str, Any]]:
    return read_lines(folder / "predictions.jsonl")


def test_the_published_command(roots: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--benchmark", "toy_one", *TINY, "--generate_num", "3", "--eval_num", "-1", *roots]
    assert eval_door.main(arguments) == EXIT_DONE
    (folder,) = (tmp_path / "results" / "toy_one").iterdir()
    assert folder.name.startswith("ffaa-tiny-N3-") and len(folder.name) == len("ffaa-tiny-N3-") + 8
    lines = predictions(folder)
    assert len(lines) == 6 and all(len(line["answers"]) == 3 and len(line["logits"]) == 3 for line in lines)
    out = capsys.readouterr().out
    for words in (
        "toy_one: 6 pictures (3 real, 3 fake)",
        "FFAA (MIDS)",
        "majority class",
        "2-class accuracy",
        str(folder),
    ):
        assert words in out
    # Asked again, it finds its result and prints the same.
    assert eval_door.main(arguments) == EXIT_DONE
    assert capsys.readouterr().out == out
    assert eval_door.main(["--score_only", str(folder)]) == EXIT_DONE
    assert capsys.readouterr().out == out


def test_answers_are_generated_once_and_scored_apart(
    roots: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--benchmark=toy_one,toy_two", *TINY, *roots]
    assert eval_door.main([*arguments, "--cache=0"]) == EXIT_DONE
    (tmp_path / "results").rename(tmp_path / "without")
    with pytest.raises(InputError, match="no kept answers of this language model: run with --mode generate first"):
        eval_door.main([*arguments, "--mode=score"])
    assert not (tmp_path / "results").exists()
    assert eval_door.main([*arguments, "--mode=generate"]) == EXIT_DONE
    assert "answers to 10 pictures are kept in" in capsys.readouterr().out

    def loads(*args: object, **kwargs: object) -> None:
        raise AssertionError("the language model was loaded")

    with monkeypatch.context() as patched:
        patched.setattr("ffaa.methods.ffaa.method.load_trained_mllm", loads)
        assert eval_door.main([*arguments, "--mode=score"]) == EXIT_DONE
    for name in ("toy_one", "toy_two"):
        (without,), (scored,) = ((tmp_path / place / name).iterdir() for place in ("without", "results"))
        assert without.name == scored.name
        for one, other in zip(predictions(without), predictions(scored), strict=True):
            assert one["answers"] == other["answers"] and one["chosen"] == other["chosen"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    # Another selector, or another number of answers, is judged from the same answers.
    assert eval_door.main([*arguments, "--mode=score", "--generate_num=2"]) == EXIT_DONE
    with pytest.raises(InputError, match="no kept answers"):
        eval_door.main([*arguments, "--mode=score", "--max_new_tokens=7"])


def test_random_weights_of_another_seed_have_answers_of_their_own(roots: list[str], tmp_path: Path) -> None:
    arguments = ["--benchmark=toy_two", *TINY, *roots]
    assert eval_door.main([*arguments, "--mode=generate"]) == EXIT_DONE
    assert eval_door.main([*arguments, "--seed=1", "--cache=0", "--run=without"]) == EXIT_DONE
    assert eval_door.main([*arguments, "--seed=1", "--run=with"]) == EXIT_DONE
    without, kept = (predictions(tmp_path / "results" / "toy_two" / name) for name in ("without", "with"))
    assert without == kept


def test_a_rank_with_unusable_pictures_does_not_end_the_others(
    roots: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmark" / "toy_two" / "imgs" / "001.png").write_bytes(b"no picture")
    assert eval_door.main(["--benchmark=toy_two", *TINY, *roots, "--mode=generate"]) == EXIT_PARTIAL
    assert "1 pictures cannot be used" in capsys.readouterr().out
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    # torchrun sends SIGTERM to all ranks when one of them ends with another code than 0.
    assert eval_door.report_answers(3, 1, tmp_path / "none") == EXIT_DONE
    assert "answers to 3 pictures of rank 1's share are kept" in capsys.readouterr().out


def test_the_language_model_alone_has_modes_too(roots: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--benchmark=toy_two", "--model_name=tiny", "--dtype=float32", "--max_new_tokens=6", *roots]
    assert eval_llava.main([*arguments, "--mode=generate"]) == EXIT_DONE
    assert "answers to 4 pictures are kept" in capsys.readouterr().out
    assert eval_llava.main([*arguments, "--mode=score"]) == EXIT_DONE


def test_as_many_pictures_are_taken_together_as_memory_has_room_for(
    roots: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--benchmark=toy_two", *TINY, *roots, "--cache=0"]
    memory = 10**15
    monkeypatch.setattr("ffaa.evaluation.runner.free_memory", lambda device: memory)
    assert eval_door.main([*arguments, "--run=much"]) == EXIT_DONE
    memory = 1
    assert eval_door.main([*arguments, "--run=little"]) == EXIT_DONE
    sizes = {path.parent.name: path.read_text() for path in (tmp_path / "results").glob("*/*/config.yaml")}
    assert "block_size: 32\n" in sizes["much"] and "block_size: 1\n" in sizes["little"]
    # A run goes on with the blocks it was begun with, whatever memory there is now.
    folder = tmp_path / "results" / "toy_two" / "much"
    lines = (folder / "predictions.jsonl").read_text().splitlines(keepends=True)
    (folder / "predictions.jsonl").write_text("".join(lines[:2]))
    assert eval_door.main([*arguments, "--run=much"]) == EXIT_DONE
    assert (folder / "predictions.jsonl").read_text() == "".join(lines)
    with pytest.raises(InputError, match="block_size = 32, not 2"):
        eval_door.main([*arguments, "--run=much", "--block_size=2"])


def test_two_processes_make_the_result_of_one(roots: list[str], tmp_path: Path) -> None:
    """By torchrun, with the real model of size tiny; the folder's name and every line but timings are the same."""
    arguments = ["--benchmark=toy_one,toy_two", *TINY, "--block_size=2", "--cache=0"]
    assert eval_door.main([*arguments, *roots]) == EXIT_DONE
    (tmp_path / "results").rename(tmp_path / "alone")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, "eval.py", *arguments, *roots], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("toy_one: 6 pictures") == done.stdout.count("toy_two: 4 pictures") == 1
    alone = sorted(path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").glob("*/*/[ps]*.json*"))
    assert len(alone) == 4
    for path in alone:
        assert (tmp_path / "results" / path).read_bytes() == (tmp_path / "alone" / path).read_bytes()


def test_each_option_that_matters_has_its_own_folder(roots: list[str], tmp_path: Path) -> None:
    for options in ([], ["--seed=1"], ["--generate_num=2"], ["--limit=3"], ["--block_size=2"], ["--max_new_tokens=5"]):
        assert eval_door.main(["--benchmark=toy_two", *TINY, *roots, *options]) == EXIT_DONE
    assert len(list((tmp_path / "results" / "toy_two").iterdir())) == 6


def test_several_benchmarks_of_one_family(roots: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_door.main(["--benchmark=toy_one,toy_two,toy_one", *TINY, *roots, "--limit=2"]) == EXIT_DONE
    out = capsys.readouterr().out
    assert out.count("toy_one: 2 pictures") == 1
    assert "toy: FFAA (MIDS)" in out and "ALL" not in out


def test_a_named_run_under_another_config_is_refused(roots: list[str], tmp_path: Path) -> None:
    arguments = ["--benchmark=toy_two", *TINY, *roots, "--run=mine"]
    assert eval_door.main(arguments) == EXIT_DONE
    with pytest.raises(InputError, match=r"mine was made with seed = 0, not 1"):
        eval_door.main([*arguments, "--seed=1"])
    assert eval_door.main([*arguments, "--seed=1", "--fresh"]) == EXIT_DONE
    (tmp_path / "benchmark" / "toy_two" / "imgs" / "000.png").write_bytes(b"changed")
    with pytest.raises(InputError, match=r"mine was made with data = "):
        eval_door.main([*arguments, "--seed=1"])


def test_unusable_pictures_give_exit_code_3(
    roots: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmark" / "toy_two" / "imgs" / "001.png").write_bytes(b"no picture")
    assert eval_door.main(["--benchmark=toy_two", *TINY, *roots]) == EXIT_PARTIAL
    out = capsys.readouterr().out
    assert "3 pictures (2 real, 1 fake, 1 failed)" in out and "1 failed and not scored" in out


def test_crop_records_pictures_without_a_face(roots: list[str], tmp_path: Path) -> None:
    assert eval_door.main(["--benchmark=toy_two", *TINY, *roots, "--crop", "1", "--run=cropped"]) == EXIT_PARTIAL
    lines = predictions(tmp_path / "results" / "toy_two" / "cropped")
    assert [line["status"] for line in lines] == ["failed"] * 4
    assert all("face" in line["error"] for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no benchmark given"),
        (["--benchmark=toy_on"], "unknown benchmark 'toy_on', did you mean toy_one"),
        (["--benchmark=toy_one", "--model=tinny"], "unknown model 'tinny'.*did you mean tiny"),
        (["--benchmark=toy_one", "--method=fffaa"], "'fffaa'.*did you mean ffaa"),
        (["--benchmark=toy_one", "--model=tiny", "--generate_num=4"], "generate_num is 1, 2 or 3"),
        (["--benchmark=toy_one", "--model=tiny", "--block_size=0"], "block_size must be at least 1"),
        (["--benchmark=toy_one", "--mode=score", "--cache=0"], "kept answers, which --cache 0 forbids"),
        (["--benchmark=toy_one", "--model=tiny", "--mode=generate", "--cache=0"], "which --cache 0 forbids"),
        (["--benchmark=toy_one", "--mode=generate", "--fresh"], "makes no result to start afresh"),
        (["--mode=score", "--score_only=x"], "score_only reads a result and has no --mode"),
        (["--mode=generate", "--score_only=x"], "score_only reads a result and has no --mode"),
        (["--benchmark=toy_one", "--mode=score", "--attn_implementation=sdpa"], "loads no language model"),
        (["--benchmark=toy_one", "--limit=0"], "at least 1"),
        (["--benchmark=toy_one", "--limit=2", "--eval_num=3"], "disagree"),
        (["--benchmark=toy_one", "--run=../elsewhere"], "no plain folder name"),
        (["--benchmark=toy_one", "--model=tiny", "--checkpoint=/nowhere"], "/nowhere"),
        (["--score_only=/nowhere"], "no such result folder"),
    ],
)
def test_bad_input_is_one_line(roots: list[str], arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        eval_door.main([*roots, *arguments])
    assert "\n" not in str(error.value)


def test_the_language_model_alone(roots: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tail = ["--dtype=float32", "--max_new_tokens=6", *roots]
    assert eval_llava.main(["--benchmark=toy_two", "--model_name=tiny", *tail]) == EXIT_DONE
    (folder,) = (tmp_path / "results" / "toy_two").iterdir()
    assert folder.name.startswith("llava-tiny-N1-")
    assert all(len(line["answers"]) == 1 and line["logits"] is None for line in predictions(folder))
    out = capsys.readouterr().out
    assert "LLaVA" in out
    assert eval_door.main(["--benchmark=toy_two", "--method=llava", "--model=tiny", *tail]) == EXIT_DONE
    assert capsys.readouterr().out == out
    assert json.loads((folder / "summary.json").read_text())["by_chosen"] == {}


def test_an_unknown_language_model(roots: list[str]) -> None:
    with pytest.raises(InputError, match="unknown model 'llava-mistral-7c'.*mistral"):
        eval_llava.main(["--benchmark=toy_two", "--model_name=llava-mistral-7c", *roots])


def test_degraded_pictures_are_other_pictures(
    roots: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--benchmark=toy_two", *TINY, *roots]
    assert eval_door.main([*arguments, "--run=mine"]) == EXIT_DONE
    assert eval_door.main([*arguments, "--degrade=noise@5", "--run=noisy"]) == EXIT_DONE
    assert "toy_two under noise:0.05: 4 pictures" in capsys.readouterr().out
    clean, noisy = (tmp_path / "results" / "toy_two" / name for name in ("mine", "noisy"))
    assert "degrade: noise:0.05\n" in (noisy / "config.yaml").read_text()
    assert "degrade" not in (clean / "config.yaml").read_text()
    # Kept answers are those of the pixels, so none was taken from the clean pictures: logits see them too.
    assert [line["logits"] for line in predictions(clean)] != [line["logits"] for line in predictions(noisy)]
    # The same corruption spelled otherwise goes on; another, or none, is refused.
    assert eval_door.main([*arguments, "--degrade=noise:0.05", "--run=noisy"]) == EXIT_DONE
    with pytest.raises(InputError, match=r"made with degrade = noise:0.05, not jpeg:50"):
        eval_door.main([*arguments, "--degrade=jpeg:50", "--run=noisy"])
    with pytest.raises(InputError, match=r"made with degrade = noise:0.05, not nothing"):
        eval_door.main([*arguments, "--run=noisy"])
    capsys.readouterr()
    assert eval_door.main(["--score_only", str(noisy)]) == EXIT_DONE
    assert "toy_two under noise:0.05" in capsys.readouterr().out


def test_scoring_again_with_groups_and_a_validated_threshold(
    roots: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("toy_one", "toy_two"):
        assert eval_door.main([f"--benchmark={name}", *TINY, *roots, "--run=mine"]) == EXIT_DONE
    test, validation = (tmp_path / "results" / name / "mine" for name in ("toy_one", "toy_two"))
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps({line["id"]: f"{line['label']}-{i // 4}" for i, line in enumerate(predictions(test))}))
    again = ["--score_only", str(test), f"--groups={groups}", f"--threshold_from={validation}"]
    capsys.readouterr()
    assert eval_door.main(again) == EXIT_DONE
    out = capsys.readouterr().out
    assert "intervals by 4 groups" in out and ", validated" in out and "videos by the mean" in out
    summary = json.loads((test / "summary.json").read_text())
    assert summary["groups"]["videos"]["trimmed_mean"]["n"] == 4 and summary["decisions"]["validated"]["n"] == 6
    groups.write_text('{"elsewhere.png": "a"}')
    with pytest.raises(InputError, match="no picture 'elsewhere.png'"):
        eval_door.main(again)
    with pytest.raises(InputError, match="are for --score_only"):
        eval_door.main(["--benchmark=toy_one", f"--groups={groups}", *TINY, *roots])
    with pytest.raises(InputError, match="no such result folder: nowhere"):
        eval_door.main(["--score_only", str(test), "--threshold_from=nowhere"])


def test_a_benchmarks_groups_are_written_into_the_lines(roots: list[str], tmp_path: Path) -> None:
    arguments = ["--benchmark=toy_two", *TINY, *roots, "--run=mine"]
    (tmp_path / "benchmark" / "toy_two" / "groups.json").write_text('{"000.png": "anna", "001.png": "anna"}')
    assert eval_door.main(arguments) == EXIT_DONE
    lines = predictions(tmp_path / "results" / "toy_two" / "mine")
    assert [line.get("group") for line in lines] == ["anna", "anna", None, None]
    (tmp_path / "benchmark" / "toy_two" / "groups.json").unlink()
    with pytest.raises(InputError, match=r"mine was made with groups = "):
        eval_door.main(arguments)


def test_scoring_again_needs_no_torch(roots: list[str], tmp_path: Path) -> None:
    assert eval_door.main(["--benchmark=toy_one", *TINY, *roots, "--run=mine"]) == EXIT_DONE
    folder = tmp_path / "results" / "toy_one" / "mine"
    wanted = (folder / "summary.json").read_text()
    (folder / "summary.json").unlink()
    code = (
        "import sys, eval\n"
        f"assert eval.main(['--score_only', {str(folder)!r}]) == 0\n"
        "print(sorted({'torch', 'transformers', 'cv2', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n") and (folder / "summary.json").read_text() == wanted
