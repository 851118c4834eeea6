"""The files of a result folder that grow while a run goes on: JSON lines, each whole or not there.

A line is one ``write`` of the operating system and is on the disk before the next one is begun, so that whatever kills
the process leaves at most one torn line, at the end. :func:`mend` cuts that off.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ffaa.types import Hypothesis, InputError, Verdict

_TEXTS = ("text", "question", "description", "reasoning")
_NEEDED = frozenset({"id", "label", "status"})
_NEEDED_IF_DONE = _NEEDED | {"forgery_type", "verdict", "score", "chosen", "difficulty", "answers"}


class LineWriter:
    """Appends JSON lines to a file. A context manager.

    Raises:
        InputError: from :meth:`write`, when the line does not fit on the disk; the file then ends with the line before.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line and wait until it is on the disk."""
        # ASCII only: answers may hold lone surrogates and characters that some readers take for line ends.
        data = (json.dumps(line, allow_nan=False) + "\n").encode("ascii")
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) != len(data):
                os.ftruncate(self._file, size)
                raise InputError(f"cannot write {self.path}: the disk is full; the same command goes on from here")
            os.fsync(self._file)
        except OSError as error:
            raise InputError(
                f"cannot write {self.path}: {error.strerror}; the same command goes on from here"
            ) from error


def mend(path: Path) -> int:
    """Cut off a last line that a killed process left torn, or that is not JSON. Returns the number of bytes cut."""
    if not path.is_file():
        return 0
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    start = data.rfind(b"\n", 0, max(end - 1, 0)) + 1
    # A whole last line can still be void: a power cut may keep the file's length and lose its content.
    if end and not _is_json(data[start:end]):
        end = start
    if end < len(data):
        os.truncate(path, end)
    return len(data) - end


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def read_lines(path: Path, *, texts: bool = True) -> list[dict[str, Any]]:
    """The lines of a predictions file; a torn last one is left out.

    Args:
        path: of the file.
        texts: False leaves out what answers say in words: most of the memory, and no figure of a summary needs it.

    Raises:
        InputError: there is no such file; a line is no JSON object with the fields of a prediction, or a picture has
            two lines (both named).
    """
    try:
        with path.open("rb") as file, without_collector():
            return _checked(file, path, texts)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """The garbage collector would walk the growing lines again and again, a third of the time, and find nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _checked(file: BinaryIO, path: Path, texts: bool) -> list[dict[str, Any]]:
    lines: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(file, start=1):
        where = f"{path}, line {number}"
        try:
            line = _read_line(row, where) if row.endswith(b"\n") else None
        except InputError:
            # The last whole line can be void, see `mend`; any other is an error.
            if b"\n" in file.read() or _is_json(row):
                raise
            line = None
        if line is None:
            break
        if line["id"] in lines:
            raise InputError(f"{where}: the picture {line['id']!r} has a line already")
        if not texts and line["status"] == "ok":
            for answer in line["answers"]:
                for name in _TEXTS:
                    answer.pop(name, None)
        lines[line["id"]] = line
    return list(lines.values())


def _read_line(row: bytes, where: str) -> dict[str, Any]:
    try:
        line = json.loads(str(row, "utf-8"))  # of bytes, it would look for the encoding first
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON") from error
    needed = _NEEDED_IF_DONE if isinstance(line, dict) and line.get("status") == "ok" else _NEEDED
    if not isinstance(line, dict) or not needed <= line.keys():
        missing = sorted(needed - (line.keys() if isinstance(line, dict) else set()))
        raise InputError(f"{where}: not a prediction, {', '.join(missing)} missing")
    if wrong := _wrong_field(line):
        name, value = wrong
        raise InputError(f"{where}: not a prediction, {name} is {str(value)[:80]!r}")
    return line


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= 1


def _is_share_or_none(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and 0 <= value <= 1)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _are_numbers_or_none(values: object) -> bool:
    """None, or a list of finite numbers and nulls; a page is JSON, which has no NaN."""
    return values is None or (
        isinstance(values, list)
        and all(value is None or (isinstance(value, (int, float)) and math.isfinite(value)) for value in values)
    )


def _is_one_of(*words: str | bool | None) -> Callable[[object], bool]:
    return words.__contains__  # of a tuple: a list, which has no hash, is no error


# Tables, not one expression: a result of 100,000 pictures has millions of fields, and a failing one must be named.
_Checks = tuple[tuple[str, Callable[[object], bool]], ...]
_ALWAYS: _Checks = (
    ("id", lambda value: isinstance(value, str)),
    ("label", _is_one_of("real", "fake")),
    ("status", _is_one_of("ok", "failed")),
)
_IF_DONE: _Checks = (
    ("verdict", _is_one_of(*Verdict)),
    ("score", _is_share),
    ("answers", lambda value: isinstance(value, list) and bool(value)),
    ("difficulty", _is_one_of(None, "easy", "hard")),
    ("probability", _is_share_or_none),
    ("uncertain", _is_one_of(None, True, False)),
    ("forgery_type", _is_text_or_none),
    ("group", _is_text_or_none),
    ("match_scores", _are_numbers_or_none),
)
_OF_ANSWER: _Checks = (
    ("verdict", _is_one_of(*Verdict)),
    ("hypothesis", _is_one_of(*Hypothesis)),
    ("finished", _is_flag),
    ("score", _is_share_or_none),
    ("opening_score", _is_share_or_none),
    ("text", _is_text_or_none),
    ("question", _is_text_or_none),
    ("forgery_type", _is_text_or_none),
)


def _unsound(fields: Mapping[str, Any], checks: _Checks) -> str | None:
    for name, is_sound in checks:
        if not is_sound(fields.get(name)):
            return name
    return None


def _wrong_answer(answer: object) -> tuple[str, object] | None:
    """As `_wrong_field`, of one answer."""
    if not isinstance(answer, dict):
        return "all", answer
    name = _unsound(answer, _OF_ANSWER) or ("score" if "score" not in answer else None)
    return None if name is None else (name, answer.get(name, "missing"))


def _wrong_field(line: Mapping[str, Any]) -> tuple[str, object] | None:
    """The first field that holds what no run writes, and what it holds; None where all are sound."""
    done = line["status"] == "ok"
    if name := _unsound(line, _ALWAYS) or (_unsound(line, _IF_DONE) if done else None):
        return name, line.get(name)
    if not done:
        return None
    for number, answer in enumerate(line["answers"], start=1):
        if wrong := _wrong_answer(answer):
            return f"{wrong[0]} of answer {number}", wrong[1]
    chosen = line["chosen"]
    if not isinstance(chosen, int) or not 0 <= chosen < len(line["answers"]):
        return "chosen", chosen
    if (line.get("probability") is None) != (line.get("uncertain") is None):
        return "probability", line.get("probability")
    return None
