"""Before a training starts: are all files there that its records name, and do all pictures open?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ffaa.data.formats import TrainingSet
from ffaa.data.images import inside, open_image
from ffaa.runtime import atomic_write_text
from ffaa.types import InputError, Record

MISSING_FILE = "missing_pictures.txt"
NAMED_IN_ERRORS = 3


def require_files(sets: Sequence[TrainingSet], output: Path) -> None:
    """Refuse sets whose records name files that are not there.

    Raises:
        InputError: how many there are and the first of them; ``missing_pictures.txt`` in ``output`` lists all.
    """
    missing = sorted({path for one in sets for record in one.records for path in missing_files(one, record)})
    listing = output / MISSING_FILE
    if not missing:
        listing.unlink(missing_ok=True)  # of an attempt before, since mended
        return
    atomic_write_text(listing, "".join(f"{path}\n" for path in missing))
    more = ", ..." if len(missing) > NAMED_IN_ERRORS else ""
    first = ", ".join(map(str, missing[:NAMED_IN_ERRORS]))
    known = sum(len(one.records) for one in sets)
    raise InputError(
        f"{len(missing)} files that {known} records name are not there: {first}{more} (all are listed in {listing})"
    )


def missing_files(data: TrainingSet, record: Record) -> list[Path]:
    """The files that a record names and that are not there."""
    return [path for path in _files(data, record) if not path.is_file()]


def broken_pictures(data: TrainingSet, workers: int) -> Iterator[list[str]]:
    """For each record, in order, what is wrong with its files: not there, empty, damaged, cut off, no picture."""

    def problems(record: Record) -> list[str]:
        found = []
        for path in _files(data, record):
            try:
                open_image(path)
            except InputError as error:
                found.append(f"{data.file}: record {record.id!r}: {error}")
        return found

    # Threads: the decoders let go of the interpreter while they work.
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(problems, data.records)


def _files(data: TrainingSet, record: Record) -> list[Path]:
    named = [record.image, *record.masks, *([record.source_image] if record.source_image else [])]
    return [inside(data.root, relative) for relative in named]
