"""Make a benchmark of pictures that lie in another layout, without copying them: ``benchmark/<name>/imgs`` is a link.

``--source`` is a folder with real/ and fake/ in it, or a JSON file of DeepfakeBench or DF40, whose frames lie below
``--images``; frames of one video then share a group.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ffaa.config import Switch, parse
from ffaa.data.benchmark import ALIASES, write_benchmark
from ffaa.data.foreign_benchmarks import Found, Part, read_deepfakebench, read_folder_pair
from ffaa.reporting.tables import GENERALISATION
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, make_folder, run_door
from ffaa.types import InputError


@dataclass(frozen=True)
class Options:
    source: Path | None = None
    """Folder with real/ and fake/, or a JSON file of DeepfakeBench or DF40."""
    name: str = ""
    """Name of the benchmark, a new folder of benchmark/."""
    images: Path | None = None
    """Folder that the frames of a JSON file lie below."""
    split: str = "test"
    """Split of a JSON file: train, val or test."""
    compression: str = "c23"
    """Compression, where a JSON file has several."""
    frames: int = 32
    """Frames of each video at most, as DeepfakeBench takes them: of n every (n // frames)-th, from the first one on,
    and so of 63 the first 32; -1 for all."""
    even: Switch = False
    """Spread the frames over the whole of each video instead."""
    published: Switch = False
    """The pictures are those of a published set (dfd, dfdc, dpf, ma, mffdi, pgc, wfir), whose name they may have."""
    out: Path = PROJECT_ROOT / "benchmark"
    """Folder of the benchmarks."""


def read(source: Path, options: Options) -> Found:
    """What lies at ``source``, of either layout.

    Raises:
        InputError: there is nothing, or it has neither layout.
    """
    if not source.exists():
        raise InputError(f"no such folder or file: {source}")
    if source.is_dir():
        return read_folder_pair(source)
    if options.images is None:
        raise InputError(f"say where the frames of {source} lie: --images FOLDER")
    part = Part(options.split, options.compression, options.frames, options.even)
    return read_deepfakebench(source, options.images, part)


def new_folder(options: Options) -> Path:
    """The folder that is to be made, under a name that ``--benchmark`` can give and that misleads nobody.

    Raises:
        InputError: it is there already, or the name is another benchmark's or cannot be one's.
    """
    name = options.name
    # Commas stand between several benchmarks, and groups.json is a file of every benchmark.
    if not re.fullmatch(r"\w[\w.+-]*", name) or name.casefold() == "groups":
        raise InputError(
            f"--name {name!r} cannot be a benchmark's: letters, digits, _, ., + and -, no first dot or dash, not groups"
        )
    if name.casefold() in {*GENERALISATION, *ALIASES} and not options.published:
        raise InputError(
            f"{name} is a published set, beside whose figures results would stand: give another --name, or "
            "--published 1 if the pictures are that set's"
        )
    folder = options.out / name
    if folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} is there already: give another --name")
    return folder


def main() -> int:
    options = parse(Options, prog="import_benchmark.py", description=__doc__ or "")
    if options.source is None or not options.name:
        raise InputError("say what is to be imported: --source PATH --name NAME")
    folder = new_folder(options)
    found = read(options.source, options)
    make_folder(options.out)
    folder.mkdir()
    try:
        (folder / "imgs").symlink_to(found.root, target_is_directory=True)
        benchmark = write_benchmark(folder, found.labels, found.groups or None)
    except BaseException:  # whatever it was, no half of a benchmark stays; of imgs the link alone is removed
        shutil.rmtree(folder)
        raise
    counts = Counter(item.label for item in benchmark.items)
    videos = f" of {len(set(found.groups.values()))} videos" if found.groups else ""
    print(f"{len(benchmark.items)} pictures{videos} ({counts['real']} real, {counts['fake']} fake) -> {folder}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
