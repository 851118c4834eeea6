"""Make a benchmark of pictures that lie in another layout, without copying them: ``benchmark/<name>/imgs`` is a link.

``--source`` is a folder with real/ and fake/ in it, or a JSON file of DeepfakeBench or DF40, whose frames lie below
``--images``; frames of one video then share a group.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ffaa.config import parse
from ffaa.data.benchmark import write_benchmark
from ffaa.data.foreign_benchmarks import Found, Part, read_deepfakebench, read_folder_pair
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, run_door
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
    """Frames of each video at most, evenly spread; -1 for all."""
    out: Path = PROJECT_ROOT / "benchmark"
    """Folder of the benchmarks."""


def read(options: Options) -> Found:
    """What the options name, of either layout."""
    if options.source is None or not options.name:
        raise InputError("say what is to be imported: --source PATH --name NAME")
    if options.source.is_dir():
        return read_folder_pair(options.source)
    if options.images is None:
        raise InputError(f"say where the frames of {options.source} lie: --images FOLDER")
    return read_deepfakebench(options.source, options.images, Part(options.split, options.compression, options.frames))


def main() -> int:
    options = parse(Options, prog="import_benchmark.py", description=__doc__ or "")
    found = read(options)
    folder = options.out / options.name
    if folder.exists() or Path(options.name).name != options.name:
        raise InputError(f"{folder} is there already, or no plain name: give another --name")
    folder.mkdir(parents=True)
    (folder / "imgs").symlink_to(found.root, target_is_directory=True)
    try:
        benchmark = write_benchmark(folder, found.labels, found.groups or None)
    except InputError:
        (folder / "imgs").unlink()
        folder.rmdir()
        raise
    counts = Counter(item.label for item in benchmark.items)
    videos = f" of {len(set(found.groups.values()))} videos" if found.groups else ""
    print(f"{len(benchmark.items)} pictures{videos} ({counts['real']} real, {counts['fake']} fake) -> {folder}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
