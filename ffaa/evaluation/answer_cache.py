"""Answers that language models wrote, kept so that what judges them can be run again without generating.

A file of SQLite for each language model and way of decoding, in a folder of their own; in it an answer is found by its
picture's pixels and its question. Any number of processes may use one file at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffaa.assets import cache_home
from ffaa.runtime import make_folder, to_plain
from ffaa.types import GeneratedText, InputError, Mode

_PATIENCE = 60.0
"""Seconds to wait for another process that writes."""

_TABLES = """
CREATE TABLE IF NOT EXISTS writer (identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (picture TEXT, question TEXT, answer TEXT NOT NULL, PRIMARY KEY (picture, question));
"""


def not_kept(what: str = "") -> str:
    """What is said where answers are to be judged that nobody wrote."""
    return (
        f"no kept answers of this language model{what}: run with --mode generate first, with the same options and the "
        "same pictures"
    )


def answers_home() -> Path:
    """The folder of all kept answers: ``$FFAA_ANSWERS``, or ``answers`` in the cache of assets."""
    named = os.environ.get("FFAA_ANSWERS")
    return Path(named).expanduser() if named else cache_home() / "answers"


class AnswerCache:
    """The answers of one language model, decoded one way.

    Args:
        written_by: all that an answer depends on besides picture and question (``Generates.written_by``).

    Raises:
        InputError: from every method, when the file cannot be read or written; it names the file and what to do.
    """

    def __init__(self, written_by: Mapping[str, Any]) -> None:
        self.identity = json.dumps(to_plain(written_by), sort_keys=True)
        name = hashlib.sha256(self.identity.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self.path = answers_home() / f"{name}.sqlite"

    def check(self, mode: Mode) -> None:
        """That there are answers to read, or a folder to write to, before hours are spent on what cannot be kept."""
        folder = _checked_home()
        if self.path.exists():
            return
        if mode is Mode.SCORE:
            raise InputError(not_kept())
        make_folder(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"cannot write to {folder}; --cache 0 keeps no answers, FFAA_ANSWERS names another folder")

    def find(self, pictures: Sequence[str], questions: Sequence[Sequence[str]]) -> list[list[GeneratedText | None]]:
        """The answers to ``questions[i]`` about the picture of key ``pictures[i]``, None where there is none."""
        if not self.path.is_file():
            return [[None] * len(asked) for asked in questions]
        with self._open() as base:
            return [
                [self._found(base, picture, question) for question in asked]
                for picture, asked in zip(pictures, questions, strict=True)
            ]

    def keep(self, answers: Sequence[tuple[str, str, GeneratedText]]) -> None:
        """Add ``(picture, question, answer)``, all or none; what is there already stays."""
        make_folder(self.path.parent)
        rows = [(picture, question, json.dumps(to_plain(text))) for picture, question, text in answers]
        with self._open() as base:
            if base.execute("SELECT count(*) FROM writer").fetchone()[0] == 0:
                base.execute("INSERT INTO writer VALUES (?)", (self.identity,))
            base.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", rows)

    def _found(self, base: sqlite3.Connection, picture: str, question: str) -> GeneratedText | None:
        wanted = "SELECT answer FROM answers WHERE picture = ? AND question = ?"
        row = base.execute(wanted, (picture, question)).fetchone()
        return self._read(row[0]) if row else None

    def _read(self, text: str) -> GeneratedText:
        try:
            return GeneratedText(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.path} holds what is no answer, {str(text)[:60]!r}; {self._removal}") from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as base, base:
                base.executescript(_TABLES)
                yield base
        except sqlite3.OperationalError as error:
            # Locked, read-only, no room: the answers in it may be sound.
            raise InputError(f"cannot use the kept answers in {self.path}: {error}; --cache 0 does without") from error
        except sqlite3.Error as error:
            raise InputError(f"{self.path} is no file of answers ({error}); {self._removal}") from error

    @property
    def _removal(self) -> str:
        return f"`ffaa answers --clear {self.path.stem}` removes it, --cache 0 does without"


@dataclass(frozen=True)
class KeptFile:
    """A file of kept answers: how many, and by whom; or what is wrong with it."""

    path: Path
    answers: int = 0
    written_by: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


def kept() -> list[KeptFile]:
    """All files of kept answers. Raises InputError where their folder is none."""
    return [_look_into(path) for path in sorted(_checked_home().glob("*.sqlite")) if path.is_file()]


def _look_into(path: Path) -> KeptFile:
    try:
        with closing(sqlite3.connect(path, timeout=_PATIENCE)) as base:
            count = int(base.execute("SELECT count(*) FROM answers").fetchone()[0])
            row = base.execute("SELECT identity FROM writer").fetchone()
        written_by = json.loads(row[0]) if row else {}
        if not isinstance(written_by, dict):
            return KeptFile(path, count, problem="its writer is not named")
        return KeptFile(path, count, written_by)
    except (sqlite3.Error, ValueError, TypeError) as error:
        return KeptFile(path, problem=str(error))


def _checked_home() -> Path:
    home = answers_home()
    if home.exists() and not home.is_dir():
        raise InputError(f"{home} is no folder: FFAA_ANSWERS names the one of kept answers")
    return home
