"""Outputs of frozen towers, kept on disk so that each picture or text goes through its tower once.

One file an entry, not one large table: a file comes to be by a rename, which is whole or absent on every file system,
needs no index that a crash could leave behind the data, is read by any number of ranks without a lock, and lets the
same picture of another data set, run or stage be found again. The price is 20,000 small files where a table would be
one; they lie in 256 folders.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ffaa.runtime import locked, make_folder, sha256_file

log = logging.getLogger(__name__)

_LOCK, _USED, _PARTIAL = ".lock", ".used", ".partial"


class Lookup(TypedDict):
    """What a cache knew of a batch of N items; tensors and strings alone, so that loaders move it as any batch."""

    known: Tensor
    """(K, ...): features of the items ``rows``."""
    rows: Tensor
    """(K,) int64."""
    others: Tensor
    """(N - K,) int64: the items to be computed."""
    keys: list[str]
    """Keys of ``others``."""


def tower_identity(parts: Mapping[str, nn.Module], **settings: Any) -> str:
    """Hex sha256 of modules' configurations, weights and dtypes, and of all else that shapes what they give."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for part, module in parts.items():
        config = getattr(module, "config", None)
        digest.update(f"{part}\0{config.to_json_string() if config is not None else ''}".encode())
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            digest.update(memoryview(_bytes(tensor)))
    return digest.hexdigest()


class FeatureCache:
    """Features of one tower by key, in a folder that caches of other towers may share, up to ``limit`` bytes in all.

    Ranks and runs write under one lock and read without: an entry is renamed to its name once it is written, and one
    that was damaged since is recognised by its checksum and made anew. What no longer fits is not kept. The folder has
    to allow locks (``flock``).
    """

    def __init__(self, folder: Path, limit: int, identity: str) -> None:
        self.root = folder
        self.limit = limit
        self.identity = identity
        self._pictures: dict[Path, str] = {}
        self._full = False
        make_folder(folder)
        with locked(folder, _LOCK, wait=True):
            for partial in folder.rglob(f"*{_PARTIAL}"):  # nobody writes now: a killed process left it
                partial.unlink()
            used = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
            (folder / _USED).write_text(str(used))
        log.info("feature cache %s: %.2f of %.2f GB used", folder, used / 1e9, limit / 1e9)

    def key(self, content: bytes) -> str:
        """The key of what the tower reads."""
        return hashlib.sha256(self.identity.encode() + content).hexdigest()

    def picture_key(self, path: Path) -> str:
        """The key of a picture, by its file's bytes, which are read once a process."""
        if path not in self._pictures:
            self._pictures[path] = self.key(bytes.fromhex(sha256_file(path)))
        return self._pictures[path]

    def get(self, key: str) -> Tensor | None:
        """The features kept under ``key``; None where there are none, or none that are whole."""
        path = self._path(key)
        try:
            with safe_open(path, "pt") as file:
                features: Tensor = file.get_tensor("features")
                checksum = (file.metadata() or {}).get("crc32")
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            log.warning("%s is damaged (%s) and is computed anew", path, error)
            return None
        if checksum != _checksum(features):
            log.warning("%s is damaged (its checksum differs) and is computed anew", path)
            return None
        return features

    def put(self, key: str, features: Tensor) -> bool:
        """Keep features under ``key``; False where they no longer fit, into the limit or onto the disk."""
        if self._full:
            return False
        features = features.detach().cpu().contiguous()
        data = save({"features": features}, metadata={"crc32": _checksum(features)})
        path = self._path(key)
        partial = path.with_suffix(_PARTIAL)
        try:
            with locked(self.root, _LOCK, wait=True):
                before = path.stat().st_size if path.exists() else 0
                used = int((self.root / _USED).read_text() or 0) - before + len(data)
                if used > self.limit:
                    self._stop(f"its {self.limit / 1e9:.2f} GB are used")
                    return False
                path.parent.mkdir(parents=True, exist_ok=True)
                partial.write_bytes(data)
                (self.root / _USED).write_text(str(used))
                partial.replace(path)
        except OSError as error:
            self._stop(str(error))
            return False
        return True

    def look_up(self, keys: Sequence[str], length: int | None = None) -> Lookup:
        """What is kept of a batch. With ``length``, features (L, ...) are padded by zeros to (``length``, ...)."""
        found = [self.get(key) for key in keys]
        rows = [row for row, features in enumerate(found) if features is not None]
        others = [row for row, features in enumerate(found) if features is None]
        known = [
            cast(Tensor, found[row]) if length is None else _padded(cast(Tensor, found[row]), length) for row in rows
        ]
        return {
            "known": torch.stack(known) if known else torch.empty(0),
            "rows": torch.tensor(rows, dtype=torch.int64),
            "others": torch.tensor(others, dtype=torch.int64),
            "keys": [keys[row] for row in others],
        }

    def complete(
        self,
        lookup: Lookup,
        inputs: tuple[Tensor, ...],
        tower: nn.Module,
        compute: Callable[..., Tensor],
        lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """Features of all N items: those known, and ``compute(*inputs)`` of the others, which are kept from now on.

        ``inputs`` hold the others alone; of item i of them, the first ``lengths[i]`` positions are kept. ``tower`` is
        what ``compute`` runs.
        """
        missing = len(lookup["keys"])
        if not _must_run(tower, missing > 0, inputs[0].device):
            return lookup["known"]
        # Where other ranks need this one to run along, it runs on nothing that matters.
        filled = inputs if missing else tuple(one.new_zeros(1, *one.shape[1:]) for one in inputs)
        with torch.no_grad():
            new = compute(*filled)[:missing]
        for index, key in enumerate(lookup["keys"]):
            self.put(key, new[index] if lengths is None else new[index, : lengths[index]])
        if not len(lookup["rows"]):
            return new
        whole = new.new_empty(missing + len(lookup["rows"]), *new.shape[1:])
        whole[lookup["rows"]] = lookup["known"].to(new.dtype)
        whole[lookup["others"]] = new
        return whole

    def _path(self, key: str) -> Path:
        return self.root / self.identity[:16] / key[:2] / f"{key}.safetensors"

    def _stop(self, why: str) -> None:
        self._full = True
        log.warning("feature cache %s takes no more (%s): the rest is computed at every step", self.root, why)


def _must_run(tower: nn.Module, missing: bool, device: torch.device) -> bool:
    """Under ZeRO-3 ranks put a tower's weights together at each pass: when one rank runs it, all have to."""
    if not any(hasattr(parameter, "ds_id") for parameter in tower.parameters()):
        return missing
    flag = torch.tensor([int(missing)], device=device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag)


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _checksum(features: Tensor) -> str:
    return str(zlib.crc32(_bytes(features)))


def _padded(features: Tensor, length: int) -> Tensor:
    return torch.cat([features, features.new_zeros(length - len(features), *features.shape[1:])])
