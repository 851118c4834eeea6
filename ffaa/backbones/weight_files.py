"""Weights on disk, read tensor by tensor and written shard by shard, so that a model need not fit in memory.

Others' pickles are read with ``weights_only=True``; what is damaged, missing or not a number is said by name.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ffaa.runtime import atomic_write_text
from ffaa.types import InputError

WHOLE_FILES = ("model.safetensors", "pytorch_model.bin")
"""What a folder's weights are called, whole or as the stem of an index of shards; the first that is there is read."""
_LFS_POINTER = b"version https://git-lfs"


class Shard:
    """An open file of weights; tensors are read as they are asked for."""

    def __init__(self, file: Path, tensors: Mapping[str, torch.Tensor] | None, opened: safe_open | None) -> None:
        self.file = file
        self._tensors = tensors
        self._opened = opened

    def names(self) -> list[str]:
        """All its tensors."""
        return list(self._opened.keys()) if self._opened is not None else list(self._tensors or ())

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, which is not read for it."""
        if self._opened is not None:
            return tuple(self._opened.get_slice(name).get_shape())
        assert self._tensors is not None
        return tuple(self._tensors[name].shape)

    def read(self, name: str) -> torch.Tensor:
        """One tensor, maybe a view of the file.

        Raises:
            InputError: it holds a NaN or an infinity.
        """
        if self._opened is not None:
            tensor: torch.Tensor = self._opened.get_tensor(name)
        else:
            assert self._tensors is not None
            tensor = self._tensors[name]
        check_finite(name, tensor, self.file)
        return tensor


def check_finite(name: str, tensor: torch.Tensor, source: Path | str) -> None:
    """Whether a tensor holds numbers; others load, and then give answers without meaning.

    Raises:
        InputError: it holds a NaN or an infinity.
    """
    if not tensor.is_floating_point() or not tensor.numel():
        return
    # The least and the largest tell it without a copy of the tensor.
    if not all(bool(end.isfinite()) for end in tensor.aminmax()):
        raise InputError(f"{source}: {name} holds NaN or infinity, so these weights are damaged")


@contextmanager
def open_shard(file: Path) -> Iterator[Shard]:
    """A file of safetensors, or a pickle of tensors, which is not read into memory as a whole.

    Raises:
        InputError: no such file, cut short, a pickle that would run code, or something else than tensors by name.
    """
    if not file.is_file():
        raise InputError(f"no such file: {file}")
    with file.open("rb") as opened:
        if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise InputError(f"{file} is only a Git LFS pointer; fetch the file itself (git lfs pull)")
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="pt") as tensors:
                yield Shard(file, None, tensors)
        except SafetensorError as error:
            raise InputError(f"{file} is cut short or damaged: {error}") from error
    else:
        yield Shard(file, _unpickled(file), None)


def _begins_as_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        return zipfile.is_zipfile(file) or opened.read(1) == b"\x80"


def _unpickled(file: Path) -> dict[str, torch.Tensor]:
    try:
        # Files of torch before 1.6 are no archives and cannot be mapped.
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        if not _begins_as_pickle(file):
            raise InputError(f"{file} is no file of weights") from error
        if "weights_only" in str(error) or "Unsupported" in str(error):
            reason = str(error).split("GLOBAL", 1)[-1].split("was not")[0].strip().split("\n")[0]
            raise InputError(
                f"{file} holds more than tensors ({reason}); loading it could run code, so it is refused"
            ) from error
        raise InputError(f"{file} is cut short or damaged: {str(error).splitlines()[0]}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file} is cut short or damaged: {reason}") from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in found.items()
    ):
        kinds = sorted({type(value).__name__ for value in found.values()}) if isinstance(found, dict) else []
        raise InputError(f"{file} is no mapping of names to tensors but of {', '.join(kinds) or type(found).__name__}")
    return found


def weight_files(folder: Path, stems: Sequence[str] = WHOLE_FILES) -> list[Path]:
    """The files that hold a folder's weights, whole or in shards, all of which are there; none where it has no weights.

    Raises:
        InputError: the index cannot be read, or a shard that it names is missing.
    """
    for stem in stems:
        index = folder / f"{stem}.index.json"
        if (folder / stem).is_file():
            return [folder / stem]
        if index.is_file():
            try:
                named = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                shards = sorted(set(named.values()))
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise InputError(f"cannot read {index}: {error}") from error
            if missing := [shard for shard in shards if not (folder / shard).is_file()]:
                raise InputError(f"{folder} lacks {', '.join(missing)}, which {index.name} names")
            return [folder / shard for shard in shards]
    return []


def tensor_shapes(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all tensors in ``files``.

    Raises:
        InputError: as `open_shard`, or two files hold a tensor of the same name.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        with open_shard(file) as shard:
            for name in shard.names():
                if name in shapes:
                    raise InputError(f"{file} holds {name}, which another shard holds already")
                shapes[name] = shard.shape(name)
    return shapes


class ShardWriter:
    """Writes tensors to ``model*.safetensors`` as they come; holds one unwritten shard at most."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self._folder = folder
        self._limit = shard_bytes
        self._pending: dict[str, torch.Tensor] = {}
        self._pending_bytes = 0
        self._files: list[Path] = []
        self._map: dict[str, int] = {}
        self._total = 0

    def add(self, name: str, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        """Take a copy of one tensor, as ``dtype`` where it is one of floating point.

        Raises:
            InputError: ``dtype`` is too narrow for its numbers.
        """
        if name in self._map:
            raise ValueError(f"{name} was written before")
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        size = tensor.numel() * wanted.itemsize
        if self._pending and self._pending_bytes + size > self._limit:
            self._flush()
        self._pending[name] = tensor.detach().to("cpu", wanted, copy=True).contiguous()
        if wanted != tensor.dtype:
            check_finite(name, self._pending[name], f"as {str(wanted).removeprefix('torch.')}")
        self._map[name] = len(self._files)
        self._pending_bytes += size
        self._total += size

    def _flush(self) -> None:
        file = self._folder / f"model-{len(self._files) + 1:05d}.partial"
        save_file(self._pending, file, metadata={"format": "pt"})
        self._files.append(file)
        self._pending = {}
        self._pending_bytes = 0

    def close(self) -> list[Path]:
        """Write what is left, give the files their names, and the index that transformers reads; the files."""
        if self._pending:
            self._flush()
        count = len(self._files)
        names = (
            ["model.safetensors"]
            if count == 1
            else [f"model-{index:05d}-of-{count:05d}.safetensors" for index in range(1, count + 1)]
        )
        for file, name in zip(self._files, names, strict=True):
            file.replace(self._folder / name)
        if count > 1:
            weight_map = {name: names[index] for name, index in sorted(self._map.items())}
            index = {"metadata": {"total_size": self._total}, "weight_map": weight_map}
            atomic_write_text(self._folder / "model.safetensors.index.json", json.dumps(index, indent=2) + "\n")
        return [self._folder / name for name in names]
