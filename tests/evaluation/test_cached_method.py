"""Answers are written once, kept whole, and judged again without the language model."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from ffaa.evaluation.answer_cache import AnswerCache, answers_home, kept
from ffaa.evaluation.cached_method import CachedMethod, picture_key
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import GeneratedText, InputError, Mode, Request
from tests.evaluation.writer import QUESTIONS, Writer


def requests(count: int = 3) -> list[Request]:
    return [Request(Image.new("RGB", (8, 8), (80 * index,) * 3), id=str(index)) for index in range(count)]


def cached(method: Writer, mode: Mode = Mode.ALL) -> CachedMethod:
    return CachedMethod(method, AnswerCache(method.written_by), mode)


def test_a_second_run_writes_nothing_and_concludes_the_same() -> None:
    plain = Writer().analyze(requests())
    assert cached(Writer()).analyze(requests()) == plain
    again = Writer()
    assert cached(again).analyze(requests()) == plain
    assert again.asked == []


def test_only_what_is_missing_is_written() -> None:
    first = Writer()
    first.generate_num = 1
    cached(first).analyze(requests(2))
    second = Writer()
    assert cached(second).analyze(requests(3)) == Writer().analyze(requests(3))
    assert second.asked == [("0", QUESTIONS[1:]), ("1", QUESTIONS[1:]), ("2", QUESTIONS)]


def test_another_language_model_has_its_own_answers() -> None:
    cached(Writer()).analyze(requests())
    other = Writer("another")
    cached(other).analyze(requests())
    assert len(other.asked) == 3 and len(kept()) == 2


def test_pictures_are_told_apart_by_their_pixels_and_size() -> None:
    black, wide, grey = Image.new("RGB", (8, 8)), Image.new("RGB", (16, 4)), Image.new("RGB", (8, 8), (1, 0, 0))
    assert len({picture_key(image) for image in (black, wide, grey)}) == 3
    assert picture_key(black) == picture_key(black.copy())


def test_scoring_asks_for_answers_that_were_not_kept() -> None:
    cached(Writer()).analyze(requests(2))
    scorer = Writer()
    assert cached(scorer, Mode.SCORE).analyze(requests(2)) == Writer().analyze(requests(2))
    with pytest.raises(InputError, match="no kept answers .* to '2': run with --mode generate first"):
        cached(scorer, Mode.SCORE).analyze(requests(3))
    assert scorer.asked == []


def test_what_was_kept_first_stays() -> None:
    cache = AnswerCache({"model": "one"})
    first, second = GeneratedText("first", True, 0.1 + 0.2), GeneratedText("second", False, None)
    cache.keep([("picture", "question", first)])
    cache.keep([("picture", "question", second), ("picture", "other", second)])
    assert cache.find(["picture", "none"], [["question", "other", "none"], ["question"]]) == [
        [first, second, None],
        [None],
    ]


def test_a_damaged_file_is_said_in_one_line() -> None:
    cache = AnswerCache({"model": "one"})
    cache.keep([("picture", "question", GeneratedText("text", True, None))])
    cache.path.write_bytes(b"no data base, but long enough to be looked at" * 40)
    with pytest.raises(InputError, match=f"is no file of answers .*ffaa answers --clear {cache.path.stem}. removes it"):
        cache.find(["picture"], [["question"]])
    assert [(file.answers, file.problem) for file in kept()] == [(0, "file is not a database")]


@pytest.mark.parametrize("text", ["hello", '{"txt": 1}', "[1]", "null", '{"text": "a", "finished": true}'])
def test_what_is_no_answer_is_said_in_one_line(text: str) -> None:
    cache = AnswerCache({"model": "one"})
    cache.keep([("picture", "question", GeneratedText("text", True, None))])
    with closing(sqlite3.connect(cache.path)) as base, base:
        base.execute("UPDATE answers SET answer = ?", (text,))
        base.execute("UPDATE writer SET identity = '[1, 2]'")
    with pytest.raises(InputError, match=r"holds what is no answer, .*ffaa answers --clear"):
        cache.find(["picture"], [["question"]])
    assert [(file.answers, file.problem) for file in kept()] == [(1, "its writer is not named")]


def test_answers_that_another_process_holds_are_not_called_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffaa.evaluation.answer_cache._PATIENCE", 0.1)
    cache = AnswerCache({"model": "one"})
    cache.keep([("picture", "question", GeneratedText("text", True, None))])
    with closing(sqlite3.connect(cache.path, isolation_level=None)) as base:
        base.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match="database is locked; --cache 0 does without") as error:
            cache.find(["picture"], [["question"]])
        assert "clear" not in str(error.value)
        assert [file.problem for file in kept()] == ["database is locked"]


def test_folders_of_any_name_hold_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFAA_ANSWERS", str(tmp_path / "x#y?z%41"))
    cached(Writer()).analyze(requests())
    assert [(file.answers, file.problem) for file in kept()] == [(6, None)]
    assert [path.name for path in tmp_path.iterdir()] == ["x#y?z%41"]


def test_an_answers_folder_that_is_none_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FFAA_ANSWERS", str(tmp_path / "file"))
    for act in (kept, lambda: AnswerCache({}).check(Mode.ALL), lambda: AnswerCache({}).check(Mode.SCORE)):
        with pytest.raises(InputError, match="file is no folder"):
            act()
    monkeypatch.setenv("FFAA_ANSWERS", str(tmp_path / "shut"))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"cannot write to .*shut; --cache 0"):
        AnswerCache({}).check(Mode.ALL)
    with pytest.raises(InputError, match="no kept answers of this language model: run with --mode generate"):
        AnswerCache({}).check(Mode.SCORE)


def test_a_block_is_kept_whole_or_not_at_all() -> None:
    cache = AnswerCache({"model": "one"})
    unwritable = GeneratedText("text", True, float)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        cache.keep([("a", "question", GeneratedText("text", True, None)), ("b", "question", unwritable)])
    assert cache.find(["a"], [["question"]]) == [[None]]


def test_several_processes_keep_answers_in_one_file() -> None:
    program = (
        "import sys; from ffaa.evaluation.answer_cache import AnswerCache; from ffaa.types import GeneratedText\n"
        "for i in range(40): AnswerCache({'model': 'one'}).keep([(f'{sys.argv[1]}-{i}', 'q', "
        "GeneratedText('x' * 500, True, 0.5))])"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, name], cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    assert [(process.communicate(timeout=120)[1], process.returncode) for process in running] == [("", 0)] * 3
    (file,) = kept()
    assert file.answers == 120
    with closing(sqlite3.connect(file.path)) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_kept_answers_are_shown_and_removed() -> None:
    def ffaa(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ffaa", "answers", *arguments],
            cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    cached(Writer()).analyze(requests())
    cached(Writer("another")).analyze(requests())
    shown = ffaa().stdout
    assert shown.count("6 answers  model") == 2 and f"2 files in {answers_home()}" in shown
    name = kept()[0].path.stem
    assert ffaa("--clear", f"{name},{name}").stdout == f"{name}: removed\n" and len(kept()) == 1
    wrong = ffaa("--clear", "nothing")
    assert wrong.returncode == 2 and "no kept answers 'nothing'; there are" in wrong.stderr
    assert ffaa("--clear", "all").returncode == 0 and kept() == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FFAA_ANSWERS", str(tmp_path / "file" / "below"))
    with pytest.raises(InputError, match="cannot"):
        cached(Writer()).analyze(requests())
