"""Answers that language models wrote, kept so that what judges them can be run again without generating.

A file of SQLite for each language model and way of decoding, in a folder of their own; in it an answer is found by its
picture's pixels and its question. Any number of processes may use one file at a time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ffaa.assets import cache_home
from ffaa.runtime import make_folder, to_plain
from ffaa.types import GeneratedText, InputError

log = logging.getLogger(__name__)

_PATIENCE = 60.0
"""Seconds to wait for another process that writes."""

_TABLES = """
CREATE TABLE IF NOT EXISTS writer (identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (picture TEXT, question TEXT, answer TEXT NOT NULL, PRIMARY KEY (picture, question));
"""


def answers_home() -> Path:
    """The folder of all kept answers: ``$FFAA_ANSWERS``, or ``answers`` in the cache of assets."""
    named = os.environ.get("FFAA_ANSWERS")
    return Path(named).expanduser() if named else cache_home() / "answers"


class AnswerCache:
    """The answers of one language model, decoded one way.

    Args:
        written_by: all that an answer depends on besides picture and question (``Generates.written_by``).
        home: folder of the files.

    Raises:
        InputError: from every method, when the file cannot be read or written; it names the file and what to do.
    """

    def __init__(self, written_by: Mapping[str, Any], home: Path | None = None) -> None:
        self.identity = json.dumps(to_plain(written_by), sort_keys=True)
        name = hashlib.sha256(self.identity.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self.path = (home or answers_home()) / f"{name}.sqlite"

    def find(self, picture: str, questions: Sequence[str]) -> list[GeneratedText | None]:
        """The answer to each question about the picture of that key, None where there is none."""
        if not self.path.is_file():
            return [None] * len(questions)
        with self._open() as base:
            rows = [
                base.execute("SELECT answer FROM answers WHERE picture = ? AND question = ?", (picture, one)).fetchone()
                for one in questions
            ]
        return [GeneratedText(**json.loads(row[0])) if row else None for row in rows]

    def keep(self, answers: Sequence[tuple[str, str, GeneratedText]]) -> None:
        """Add ``(picture, question, answer)``, all or none; what is there already stays."""
        make_folder(self.path.parent)
        with self._open() as base:
            if base.execute("SELECT count(*) FROM writer").fetchone()[0] == 0:
                base.execute("INSERT INTO writer VALUES (?)", (self.identity,))
            rows = [(picture, question, json.dumps(to_plain(text))) for picture, question, text in answers]
            base.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as base, base:
                base.executescript(_TABLES)
                yield base
        except sqlite3.Error as error:
            raise InputError(
                f"cannot use the kept answers in {self.path} ({error}); --cache 0 does without, "
                "`ffaa answers clear` removes them"
            ) from error


def kept() -> list[tuple[Path, int, dict[str, Any]]]:
    """The files of kept answers, with how many each holds and who wrote them; damaged ones hold -1."""
    found = []
    for path in sorted(answers_home().glob("*.sqlite")):
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
                count = int(base.execute("SELECT count(*) FROM answers").fetchone()[0])
                found.append((path, count, json.loads(base.execute("SELECT identity FROM writer").fetchone()[0])))
        except (sqlite3.Error, ValueError, TypeError) as error:
            log.warning("%s is damaged (%s)", path, error)
            found.append((path, -1, {}))
    return found
