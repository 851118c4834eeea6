"""Benchmarks in others' layouts: JSON files of DeepfakeBench, which DF40 has too, and folders ``real/`` and ``fake/``.

What is read are labels and groups by the pictures' paths below one folder; no picture is opened, moved or copied.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ffaa.data.images import SUFFIXES
from ffaa.types import InputError

Label = str | tuple[str, str | None]

_REAL_LABEL = re.compile(r"(?:^|[_\s-])real$", re.IGNORECASE)
"""DeepfakeBench's classes of real videos: FF-real, DFD_real, CelebDFv1_real, DFDC_Real, ..."""
_COMPRESSION = re.compile(r"c\d+|raw")


@dataclass(frozen=True)
class Found:
    """Labels as `ffaa.data.benchmark.write_benchmark` takes them, and groups (videos), by path below ``root``."""

    root: Path
    labels: dict[str, Label] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Which part of a DeepfakeBench file: its ``split``, the ``compression`` where it has several, and of each of a
    video's n frames at most ``frames``; -1 takes all.

    Frames are chosen as DeepfakeBench's own loader does, which figures published with it rest on: every
    (n // ``frames``)-th from the first one on, so that of 63 frames 32 are the first 32. With ``even`` they are spread
    over the whole video.
    """

    split: str = "test"
    compression: str = "c23"
    frames: int = 32
    even: bool = False

    def __post_init__(self) -> None:
        if self.frames < 1 and self.frames != -1:
            raise InputError(f"frames must be at least 1, or -1 for all, got {self.frames}")

    def chosen(self, frames: Sequence[str]) -> Sequence[str]:
        """Those of a video's frames that are taken."""
        if self.frames < 0 or len(frames) <= self.frames:
            return frames
        if self.even:
            return [frames[index * len(frames) // self.frames] for index in range(self.frames)]
        return frames[:: len(frames) // self.frames][: self.frames]


def read_folder_pair(folder: Path) -> Found:
    """The pictures below ``real/`` and ``fake/`` of a folder, each at any depth.

    Where all forged ones lie in folders of ``fake/``, those folders' names are their forgery types. What has a name
    that begins with a dot is left out: such files are notes that systems keep beside pictures (``._x.jpg``).

    Raises:
        InputError: one of the two is missing, cannot be read or holds no picture; a folder below them is a link, a
            picture a link out of ``folder``; a name is no Unicode text, or the forgery type "None".
    """
    root = folder.resolve()
    for label in ("real", "fake"):
        if not (root / label).is_dir():
            raise InputError(f"{folder} has no folder {label}/: a pair of folders real/ and fake/ is expected")
    paths = {label: sorted(_pictures(root / label, root)) for label in ("real", "fake")}
    for label, found in paths.items():
        if not found:
            raise InputError(f"{folder} holds no pictures in {label}/: a pair of folders real/ and fake/ is expected")
    _refuse([path for found in paths.values() for path in found], root)
    typed = all(len(path.parts) > 2 for path in paths["fake"])
    for name in sorted({path.parts[1] for path in paths["fake"]}) if typed else ():
        if name.strip().lower() in ("", "none"):
            raise InputError(
                f"{folder} has a folder fake/{name}: it would be its pictures' forgery type, which cannot be called "
                f"{name!r}; give it another name"
            )
    labels: dict[str, Label] = {str(path): ("real", None) if typed else "real" for path in paths["real"]}
    labels |= {str(path): ("fake", path.parts[1]) if typed else "fake" for path in paths["fake"]}
    return Found(root, labels)


def _pictures(folder: Path, root: Path) -> Iterator[PurePosixPath]:
    if not folder.resolve().is_relative_to(root):
        raise InputError(f"{folder} is a link out of {root}: a benchmark's pictures must lie below one folder")
    for place, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        # Following them could count a picture twice or go round for ever; leaving them out would be silent.
        if linked := sorted(name for name in folders if (Path(place) / name).is_symlink()):
            first = str(Path(place).relative_to(root) / linked[0])
            raise InputError(
                f"{root}: folders that are links: {len(linked)}, the first {first!r}; links are not followed, "
                "put the folders themselves there"
            )
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield PurePosixPath((Path(place) / name).relative_to(root).as_posix())


def _unreadable(error: OSError) -> None:
    raise InputError(f"cannot read {error.filename}: {error.strerror}") from error


def _refuse(paths: Sequence[PurePosixPath], root: Path) -> None:
    """Refuse, with their number, pictures that no benchmark could name."""
    if strange := [str(path) for path in paths if not _is_text(str(path))]:
        raise InputError(f"{root}: names that are no UTF-8: {len(strange)}, the first {strange[0]!r}; rename them")
    if outside := [str(path) for path in paths if (root / path).is_symlink() and not _within(root / path, root)]:
        raise InputError(
            f"{root}: pictures that are links out of this folder or to nothing: {len(outside)}, the first "
            f"{outside[0]!r}; put the pictures themselves there"
        )


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _within(link: Path, root: Path) -> bool:
    try:
        target = link.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return False
    return target.is_file() and target.is_relative_to(root)


def read_deepfakebench(file: Path, images: Path, part: Part) -> Found:
    """The frames of one split of a DeepfakeBench file: ``{set: {class: {split: [{compression:] {video: {"label",
    "frames"}}}}}}`` (arXiv 2307.01426; its preprocessing/rearrange.py).

    A class whose label ends in "real" is real, every other one forged and its label the forgery type. Paths are taken
    below ``images``; as many leading folders are dropped of all of them as the first one needs to be found there.

    Raises:
        InputError: no JSON file of this form (with the place), no such split or compression, no frames, frames that
            do not lie below ``images``, or a frame in two classes.
    """
    videos = list(_videos(_read(file), file, part))
    root = images.resolve()
    if not videos:
        raise InputError(f"{file} has no videos in its split {part.split!r}")
    first = next((frames[0] for _, _, frames in videos if frames), None)
    if first is None:
        raise InputError(f"{file}: no video of its split {part.split!r} has frames")
    dropped = _surplus(_parts(first), root, file)
    found = Found(root)
    for group, label, frames in videos:
        value: Label = ("real", None) if _REAL_LABEL.search(label) else ("fake", label)
        for frame in part.chosen(frames):
            key = str(PurePosixPath(*_parts(frame)[dropped:]))
            if found.labels.setdefault(key, value) != value:
                raise InputError(
                    f"{file}: the frame {key!r} is listed in {found.groups[key]!r} and, under another "
                    f"label, in {group!r}"
                )
            found.groups[key] = group
    return found


def _read(file: Path) -> Mapping[str, Any]:
    try:
        sets = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not a JSON file: {error}") from error
    return _mapping(sets, file, "the file")


def _mapping(value: Any, file: Path, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not value:
        raise InputError(f"{file}: {where} must be a mapping that is not empty, as in DeepfakeBench's files")
    return value


def _videos(sets: Mapping[str, Any], file: Path, part: Part) -> Iterator[tuple[str, str, list[str]]]:
    """Name, label and frames of each video of the part."""
    for set_name, classes in sets.items():
        for class_name, splits in _mapping(classes, file, f"the set {set_name!r}").items():
            where = f"the class {class_name!r}"
            if part.split not in _mapping(splits, file, where):
                there = ", ".join(sorted(map(str, splits)))
                raise InputError(f"{file}: {where} has no split {part.split!r}; it has {there}")
            videos = splits[part.split]
            if isinstance(videos, dict) and videos and all(map(_COMPRESSION.fullmatch, videos)):
                if part.compression not in videos:
                    raise InputError(f"{file}: {where} has no compression {part.compression!r}; it has {list(videos)}")
                videos = videos[part.compression]
            if not isinstance(videos, dict):
                raise InputError(f"{file}: {where}: videos by name expected in its split {part.split!r}")
            for name, video in videos.items():
                yield _video(name, video, f"{class_name}/{name}", file)


def _video(name: str, video: Any, group: str, file: Path) -> tuple[str, str, list[str]]:
    label = video.get("label") if isinstance(video, dict) else None
    frames = video.get("frames") if isinstance(video, dict) else None
    if not isinstance(label, str) or not isinstance(frames, list) or not all(isinstance(f, str) for f in frames):
        raise InputError(f"{file}: the video {name!r} must have a label and a list of frames")
    if label.strip().lower() in ("", "none"):
        raise InputError(f"{file}: the video {name!r} has the label {label!r}, which says neither real nor how forged")
    return group, label, frames


def _parts(path: str) -> tuple[str, ...]:
    """Its folders and name; files made on Windows have backslashes."""
    return tuple(piece for piece in path.replace("\\", "/").split("/") if piece not in ("", "."))


def _surplus(parts: tuple[str, ...], root: Path, file: Path) -> int:
    for dropped in range(len(parts)):
        if ".." not in parts[dropped:] and (root / Path(*parts[dropped:])).is_file():
            return dropped
    raise InputError(
        f"{file}: its first frame {'/'.join(parts)!r} is not below {root}, whatever leading folders are cut"
    )
