"""What a stage of training reads: our own files of records, or the two JSON files that FFAA is published with.

- ``<name>.jsonl``, or a folder that holds it: our records (``ffaa.data.records``), pictures beside the file.
- ``<name>.json`` of conversations, LLaVA's form: ``[{"id", "image", "conversations": [{"from", "value"}, ...]}, ...]``,
  pictures relative to an image folder.
- ``<name>.json`` of answers, what the published MIDS is trained on: ``[{"image", "cls_label": 0 | 1, "answers":
  [{"content", "result", "label"}, ...]}, ...]``, pictures at the path that is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ffaa.data.images import inside
from ffaa.data.records import ANSWER_FORM, each_record, is_answer, is_text, is_turn, read_file
from ffaa.dialogue.answers import parse
from ffaa.types import InputError, Record, Verdict

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingSet:
    """The records of one file.

    ``image``, ``source_image`` and ``masks`` of a record are relative to ``root``, which they do not leave;
    ``problems`` says of each entry that is no record where it stands and why; ``sha256`` is that of the file.
    """

    file: Path
    root: Path
    records: list[Record]
    problems: list[str]
    sha256: str

    def each(self, use: Callable[[Record], T]) -> list[T]:
        """``use`` of every record. Raises its `InputError` with the file before the reason."""
        used = []
        for record in self.records:
            try:
                used.append(use(record))
            except InputError as error:
                raise InputError(f"{self.file}: {error}") from error
        return used


def read_training_set(data: Path, name: str, image_folder: Path | None = None) -> TrainingSet:
    """`examine_training_set`, in which nothing may be wrong.

    Raises:
        InputError: as there, or an entry is no record; the first is named, with file and line (or index).
    """
    found = examine_training_set(data, name, image_folder)
    if found.problems:
        others = len(found.problems) - 1
        more = f" ({others} more of its entries are wrong; scripts/data/check.py lists them)" if others else ""
        raise InputError(found.problems[0] + more)
    return found


def examine_training_set(data: Path, name: str, image_folder: Path | None = None) -> TrainingSet:
    """Read what ``data`` of a stage names, of whatever form; whether the pictures are there is not looked at.

    Args:
        data: a folder, or a .jsonl or .json file.
        name: the file of our own form that a folder holds.
        image_folder: what pictures of a published file are relative to. Without it, those of conversations are
            relative to the file's folder; those of answers are taken as they are written, absolute or from the current
            folder, since the published trainer hands them to its reader so.

    Raises:
        InputError: no such file, not JSON (with the line), no file of a known form, or without any entry.
    """
    file = _file(data, name)
    text, sha256 = read_file(file)
    if file.suffix == ".json":
        root, entries = _published(file, text, image_folder)
    elif image_folder is not None:
        raise InputError(f"image_folder is for published .json files; the pictures of {file} stand beside it")
    else:
        root, entries = file.parent, each_record(file, text)
    records, problems = [], []
    for found in entries:
        if isinstance(found, InputError):
            problems.append(str(found))
        else:
            records.append(found)
    if not records and not problems:
        raise InputError(f"{file} has no records")
    return TrainingSet(file, root, records, problems, sha256)


def _file(data: Path, name: str) -> Path:
    if data.suffix in (".json", ".jsonl") and not data.is_dir():
        return data
    if data.is_dir() and not (data / name).is_file():
        others = sorted(path.name for path in data.glob("*.json*"))
        hint = f"; to train on another file give its path ({', '.join(others[:3])} is there)" if others else ""
        raise InputError(f"no such file: {data / name}{hint}")
    if data.exists() and not data.is_dir():
        raise InputError(f"{data} is neither a folder nor a .jsonl or .json file")
    return data / name


def _published(file: Path, text: str, image_folder: Path | None) -> tuple[Path, Iterator[Record | InputError]]:
    """The root of a published file's pictures and its entries; the first entry tells which of the two forms it has."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{file}{line}: not JSON: {error}") from error
    if not isinstance(items, list):
        raise InputError(f"{file}: a list of records expected, got a {type(items).__name__}")
    first = items[0] if items and isinstance(items[0], dict) else {}
    if "answers" in first and "conversations" not in first:
        root = Path(os.sep) if image_folder is None else image_folder
        return root, _each(file, items, lambda item, index: _selection(item, index, root, image_folder is not None))
    root = file.parent if image_folder is None else image_folder
    return root, _each(file, items, lambda item, index: _conversation(item, index, root))


def _each(file: Path, items: list[Any], read: Callable[[Any, int], Record]) -> Iterator[Record | InputError]:
    for index, item in enumerate(items):
        try:
            if not isinstance(item, dict):
                raise InputError(f"an object expected, got a {type(item).__name__}")
            if not is_text(item.get("image")):
                raise InputError(f"'image' must be a path, got {_short(item.get('image'))}")
            yield read(item, index)
        except (InputError, ValueError) as error:  # ValueError: of a path that no system takes
            yield InputError(f"{file}: record {index}: {error}")


def _conversation(item: Mapping[str, Any], index: int, root: Path) -> Record:
    """An entry of LLaVA's form; as LLaVA does, a first turn that is not the human's is dropped."""
    turns = item.get("conversations")
    if not isinstance(turns, list) or not all(is_turn(turn) for turn in turns):
        raise InputError(f"'conversations' must be a list of human and gpt turns, got {_short(turns)}")
    if turns and turns[0]["from"] != "human":
        turns = turns[1:]
    identity = item.get("id", index)
    if isinstance(identity, bool) or not isinstance(identity, str | int) or identity == "":
        raise InputError(f"'id' must be a text or a number, got {_short(identity)}")
    answer = parse(turns[-1]["value"] if turns else "")
    if answer.verdict is Verdict.UNPARSED:
        raise InputError("its answer states no verdict, that is no line 'Analysis result: real' or 'fake'")
    inside(root, item["image"])
    return Record(
        id=str(identity),
        image=item["image"],
        label=str(answer.verdict),
        forgery_type=answer.forgery_type,
        conversations=tuple(turns),
    )


def _selection(item: Mapping[str, Any], index: int, root: Path, joined: bool) -> Record:
    """An entry of what MIDS is trained on; ``joined``: its path is relative to a folder that was asked for."""
    label = item.get("cls_label")
    if type(label) is not int or label not in (0, 1):
        raise InputError(f"'cls_label' must be 0 (real) or 1 (fake), got {_short(label)}")
    answers = item.get("answers")
    if not isinstance(answers, list):
        raise InputError(f"'answers' must be a list, got {_short(answers)}")
    for number, answer in enumerate(answers):
        if not is_answer(answer):
            raise InputError(f"answer {number} must be {ANSWER_FORM}, got {_short(answer)}")
    image = item["image"] if joined else _from_the_top(item["image"])
    inside(root, image)
    return Record(id=str(index), image=image, label="fake" if label else "real", answers=tuple(answers))


def _from_the_top(written: str) -> str:
    """A path, absolute or from the current folder, relative to the file system's root."""
    # realpath asks the disk at every step, which only a way up makes necessary.
    absolute = os.path.realpath(written) if ".." in Path(written).parts else os.path.abspath(written)
    return absolute.lstrip(os.sep)


def _short(value: Any) -> str:
    return json.dumps(value)[:80]
