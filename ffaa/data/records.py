"""Training files: one `Record` as JSON a line, checked strictly, so that a bad line is named before training starts."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ffaa.data.images import inside
from ffaa.runtime import atomic_write_text
from ffaa.types import InputError, Record


def read_records(path: str | Path, *, files_must_exist: bool = False) -> list[Record]:
    """Read a file of records; blank lines are skipped, lists become tuples.

    ``image``, ``source_image`` and ``masks`` stay as written: relative to the file's folder, which they may not leave
    (`ffaa.data.images.inside` gives the full path). With ``files_must_exist`` they are looked for, too.

    Raises `InputError` "file:line: reason" for a line that is not a record, and for a file without any.
    """
    file = Path(path)
    records = []
    for found in each_record(file, read_file(file)[0], files_must_exist):
        if isinstance(found, InputError):
            raise found
        records.append(found)
    if not records:
        raise InputError(f"{file} has no records")
    return records


def each_record(file: Path, text: str, files_must_exist: bool = False) -> Iterator[Record | InputError]:
    """The record of each line of ``text``, which ``file`` holds, or "file:line: reason" why it is none."""
    # Not splitlines(): U+2028 and its like may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield _record(json.loads(line), file.parent, files_must_exist)
            except (InputError, ValueError, RecursionError) as error:
                yield InputError(f"{file}:{number}: {error}")


def read_file(file: Path) -> tuple[str, str]:
    """A file's text and the sha256 of its bytes. Raises `InputError` when it is not there or no text."""
    try:
        data = file.read_bytes()
        return data.decode("utf-8"), hashlib.sha256(data).hexdigest()
    except FileNotFoundError:
        raise InputError(f"no such file: {file}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file}: {error}") from error


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write records, one JSON object a line, leaving out fields that have their default value.

    Raises `InputError` where a record could not be read back; then nothing is written.
    """
    file = Path(path)
    lines = []
    for number, record in enumerate(records, start=1):
        try:
            line = json.dumps(_plain(record), ensure_ascii=False, allow_nan=False)
            _record(json.loads(line), file.parent, files_must_exist=False)
        except (InputError, ValueError, TypeError) as error:
            raise InputError(f"{file}:{number}: {error}") from error
        lines.append(line + "\n")
    if not lines:
        raise InputError(f"{file}: no records to write")
    atomic_write_text(file, "".join(lines))


def check_name(name: str, kind: str) -> None:
    """Raise `InputError` unless a name is ``<kind>.jsonl`` or begins so: any other might be that of another file."""
    if not re.fullmatch(rf"{kind}[\w.-]*\.jsonl", name):
        raise InputError(f"{kind} must be a file name such as {kind}-2.jsonl, got {name!r}")


def _plain(record: Record) -> dict[str, Any]:
    """The fields of a record that differ from their defaults."""
    result = {}
    for field in fields(record):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        value = getattr(record, field.name)
        if value != default:
            result[field.name] = value
    return result


def _record(raw: Any, root: Path, files_must_exist: bool) -> Record:
    if not isinstance(raw, dict):
        raise InputError(f"an object expected, got a {type(raw).__name__}")
    unknown = sorted(raw.keys() - _CHECKS.keys())
    if unknown:
        raise InputError(f"unknown field {unknown[0]!r}")
    missing = [name for name in ("id", "image", "label") if name not in raw]
    if missing:
        raise InputError(f"the field {missing[0]!r} is missing")
    for name, value in raw.items():
        expected, check = _CHECKS[name]
        if not (value is None and name in _OPTIONAL) and not check(value):
            raise InputError(f"{name!r} must be {expected}, got {json.dumps(value)[:80]}")
    named = [raw["image"], *raw.get("masks", ()), *([raw["source_image"]] if raw.get("source_image") else [])]
    for relative in named:
        if not inside(root, relative).is_file() and files_must_exist:
            raise InputError(f"the file {relative!r} is not there")
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()}
    return Record(**values)


def is_text(value: Any) -> bool:
    """Whether a value is a text with something in it."""
    return isinstance(value, str) and bool(value)


def _is_list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(check(item) for item in value)


def is_turn(value: Any) -> bool:
    """Whether a value is one turn of a conversation in LLaVA's form."""
    return (
        isinstance(value, Mapping)
        and value.keys() == {"from", "value"}
        and value["from"] in ("human", "gpt")
        and isinstance(value["value"], str)
    )


def is_answer(value: Any) -> bool:
    """The keys that MIDS is trained on must be right; others (scores, questions) may stand beside them."""
    if not isinstance(value, Mapping):
        return False
    label = value.get("label")
    return (
        isinstance(value.get("content"), str)
        and value.get("result") in ("real", "fake")
        and isinstance(label, int)
        and not isinstance(label, bool)
        and 0 <= label <= 3
    )


def _is_box(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 4):
        return False
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value)
    return numbers and value[0] < value[2] and value[1] < value[3]


ANSWER_FORM = '{"content": text, "result": "real" | "fake", "label": 0..3}'
"""What `is_answer` asks for."""

_OPTIONAL = frozenset({"forgery_type", "group", "source_image", "box"})
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "id": ("a text", is_text),
    "image": ("a path", is_text),
    "label": ('"real" or "fake"', lambda value: isinstance(value, str) and value in ("real", "fake")),
    "forgery_type": ("a text or null", is_text),
    "group": ("a text or null", is_text),
    "task": ("a text", is_text),
    "conversations": ('a list of {"from": "human" | "gpt", "value": text}', _is_list_of(is_turn)),
    "answers": (f"a list of {ANSWER_FORM}", _is_list_of(is_answer)),
    "source_image": ("a path or null", is_text),
    "masks": ("a list of paths", _is_list_of(is_text)),
    "regions": ("a list of texts", _is_list_of(is_text)),
    "box": ("[left, top, right, bottom] or null", _is_box),
    "extra": ("an object", lambda value: isinstance(value, dict)),
}
