"""What names the weights beneath a trained part, so that it is told when others stand in their place.

A base of 14 GB is not read whole for that: of each tensor its name, type, shape and a few stretches, and the files
beside it whole. Training changes nearly all numbers of a tensor, so that the stretches change with it.
"""

from __future__ import annotations

import hashlib
import json
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from ffaa.assets.published import converted
from ffaa.runtime import sha256_file
from ffaa.types import InputError

STRETCHES, STRETCH_BYTES = 8, 512
_VOLATILE = ("_name_or_path", "transformers_version")
_BESIDE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
)
"""Files that decide how a text or a picture becomes numbers; which of them a base has differs."""


def local_folder(source: str) -> Path | None:
    """The folder of a base: itself, or its copy in the hub's cache; None where it was not fetched yet."""
    if Path(source).is_dir():
        return Path(source)
    if (copy := converted(source)) is not None:
        return copy
    try:
        found = try_to_load_from_cache(source, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def base_hash(source: str) -> str | None:
    """What names a base that is a folder or of the hub, 64 hex digits; None where its files are not all there.

    The same weights give the same hash however they are spread over files. Raises InputError where a file is damaged.
    """
    folder = local_folder(source)
    files = _weight_files(folder) if folder else None
    if folder is None or not files or not all(file.is_file() for file in files):
        return None
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        facts: dict[str, Any] = {"config": {key: value for key, value in config.items() if key not in _VOLATILE}}
        facts["files"] = {name: sha256_file(folder / name) for name in _BESIDE if (folder / name).is_file()}
        facts["weights"] = {}
        for file in files:
            stat = file.stat()
            facts["weights"].update(_tensors(file, stat.st_size, stat.st_mtime_ns))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise InputError(f"the base in {folder} cannot be read: {error}") from error
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers would load: safetensors first, whole or in shards."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            try:
                return sorted({folder / shard for shard in json.loads(index.read_text())["weight_map"].values()})
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise InputError(f"cannot read {index}: {error}") from error
    return []


@lru_cache(maxsize=64)
def _tensors(file: Path, size: int, changed: int) -> dict[str, str]:
    """Hashes of a weight file's tensors by name; ``size`` and ``changed`` tell a file that was read before."""
    if file.suffix != ".safetensors":
        return {file.name: sha256_file(file)}  # pickled: no table of what is in it
    hashes = {}
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        if length > size:
            raise ValueError(f"{file} is no file of safetensors")
        header = json.loads(opened.read(length))
        tensors = {name: facts for name, facts in header.items() if name != "__metadata__"}
        for name, facts in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = facts["data_offsets"]
            read = min(STRETCH_BYTES, end - begin)
            digest = hashlib.sha256(json.dumps([facts["dtype"], facts["shape"]]).encode())
            for part in range(STRETCHES):
                # from the first byte to the last, and none of the tensor beside it
                opened.seek(8 + length + begin + (end - begin - read) * part // (STRETCHES - 1))
                digest.update(opened.read(read))
            hashes[name] = digest.hexdigest()
    return hashes
