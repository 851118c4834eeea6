"""What every program of the project shares: exit codes, seeds, device and dtype, hashes, run manifests.

Only the standard library is imported at the top, so that ``--help`` and torch-free commands stay fast.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import fcntl
import hashlib
import io
import json
import logging
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ffaa.types import InputError

if TYPE_CHECKING:
    import torch

PROJECT_ROOT = Path(__file__).resolve().parent.parent

EXIT_DONE = 0
EXIT_INPUT = 2
EXIT_PARTIAL = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

MAX_SEED = 2**32 - 1
"""Of numpy's legacy generator, which transformers seeds too."""

_REFUSED = frozenset(
    getattr(errno, name) for name in "ENOSPC EDQUOT EACCES EPERM EROFS ENOTDIR EISDIR EEXIST ENAMETOOLONG".split()
)
"""What the file system says of a full disk, or of a path that cannot be used; no bug of the program."""

_MANIFEST_PACKAGES = ("ffaa", "torch", "torchvision", "transformers", "peft", "accelerate", "numpy", "pillow")


def run_door(main: Callable[[], int]) -> NoReturn:
    """Run a program's ``main`` and exit with its code.

    An ``InputError``, or a file system that refuses a path, becomes one line ``error: ...`` on stderr and exit code 2;
    Ctrl-C becomes 130, and a reader of stdout that went away (``| head``) 141. Every other exception is a bug and
    keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may hold what the terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("FFAA_OFFLINE", "0").lower() not in ("", "0", "false", "no"):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when its library is imported
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("ffaa").setLevel(logging.INFO)
    # It complains when it is imported of a kernel for CPUs, which nothing here uses: packed weights are for GPUs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        code = main()
        sys.stdout.flush()
    except InputError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        code = EXIT_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
        code = EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        code = EXIT_INPUT
    sys.exit(code)


@dataclasses.dataclass(frozen=True)
class Compute:
    """Where and how a method computes."""

    device: str = "auto"
    """See :func:`pick_device`."""
    dtype: str = "auto"
    """Of the language model, see :func:`pick_dtype`; selectors compute in float32."""
    attn_implementation: str | None = None
    """Attention of the language model and its tower by transformers' name (sdpa, eager, flash_attention_2)."""
    compile: bool = False
    """Compile the language model (torch.compile)."""
    quantize: str | None = None
    """Hold the language model's layers in ``4bit`` or ``8bit`` (bitsandbytes, a GPU)."""


@dataclasses.dataclass(frozen=True)
class Rank:
    """This process's index among the ``count`` that a launcher (torchrun, accelerate, srun) started."""

    index: int = 0
    count: int = 1

    @classmethod
    def of_this_process(cls) -> Rank:
        """From ``RANK`` and ``WORLD_SIZE``; alone where they are not set.

        Raises:
            InputError: they are no index and count.
        """
        found = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not all(text.isascii() and text.isdecimal() for text in found) or int(found[0]) >= int(found[1]):
            raise InputError(f"RANK={found[0]} and WORLD_SIZE={found[1]} are no process among several")
        return cls(int(found[0]), int(found[1]))


def check_seed(seed: int) -> None:
    """Raise InputError for a seed that not all generators take."""
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"the seed must be from 0 to {MAX_SEED}, got {seed}")


def seed_everything(seed: int) -> None:
    """Seed ``random``, numpy's legacy generator and torch (all devices). Raises InputError as `check_seed` does."""
    import numpy as np
    import torch

    check_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def pick_device(name: str = "auto") -> torch.device:
    """The torch device called ``name``: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: the name is unknown, or the device is not there.
    """
    import torch

    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        # Of several processes on a machine each takes a GPU of its own.
        local = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", local % torch.cuda.device_count()) if local else torch.device("cuda")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise InputError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} asked for, but torch sees {torch.cuda.device_count()} GPUs")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The torch dtype called ``name``: ``auto``, ``float32``, ``bfloat16`` or ``float16``.

    ``auto`` is bfloat16 where the hardware multiplies it natively (GPUs that support it, CPUs with avx512_bf16 or
    amx_bf16) and float32 elsewhere, since emulated bfloat16 is slower than float32.

    Raises:
        InputError: the name is unknown.
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    if name not in known:
        raise InputError(f"unknown dtype {name!r}: use auto, {', '.join(known)}")
    return known[name]


def dtype_name(name: str, device: torch.device) -> str:
    """As `pick_dtype`, by name: what ``auto`` is on this machine, to be written down."""
    return str(pick_dtype(name, device)).removeprefix("torch.")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively. A CPU that does not takes many times as long as in float32."""
    if device.type == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported())
    return _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU's flags name a bfloat16 matrix product; False where the flags cannot be read (not Linux)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def free_memory(device: str) -> int:
    """Bytes that a device (``cpu``, ``cuda`` or ``cuda:N``) can still give."""
    if device != "cpu":
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    import psutil

    return int(psutil.virtual_memory().available)


def sha256_file(path: str | Path) -> str:
    """Hex sha256 of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(path: str | Path) -> str:
    """Hex sha256 of a folder: names (relative, ``/``) and contents of all its files in sorted order.

    Raises:
        InputError: there is no such folder.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"no such folder: {root}")
    digest = hashlib.sha256()
    for file in sorted((item for item in root.rglob("*") if item.is_file()), key=lambda item: item.as_posix()):
        digest.update(f"{file.relative_to(root).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def to_plain(obj: object) -> Any:
    """``obj`` as JSON-ready values: dataclasses and mappings to dicts, sequences and sets to lists, paths to strings.

    Raises:
        TypeError: ``obj`` holds something that has no such form.
    """
    if isinstance(obj, Enum):
        return to_plain(obj.value)
    if obj is None or isinstance(obj, bool | int | float | str):
        return obj
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return {field.name: to_plain(getattr(obj, field.name)) for field in dataclasses.fields(obj)}
    if isinstance(obj, Mapping):
        return {str(key): to_plain(value) for key, value in obj.items()}
    if isinstance(obj, set | frozenset):
        return sorted(to_plain(item) for item in obj)
    if isinstance(obj, list | tuple):
        return [to_plain(item) for item in obj]
    if isinstance(obj, Path):
        return obj.as_posix()
    raise TypeError(f"{type(obj).__name__} cannot be written as JSON")


def config_hash(obj: object) -> str:
    """The first 8 hex digits of the sha256 of ``obj`` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(to_plain(obj), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Names of files need not be text: what is not comes as lone surrogates.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write ``text`` (UTF-8) so that a reader, or a killed run, sees the old file or the new one, never half."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            make_readable(temporary)  # NamedTemporaryFile makes it private to its owner
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def make_readable(file: Path) -> None:
    """Let a file be read by whom the process lets read any other new file."""
    umask = os.umask(0)
    os.umask(umask)
    file.chmod(0o666 & ~umask)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where it is missing. Raises InputError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from error


@contextlib.contextmanager
def locked(folder: Path, name: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for one process. The system lets go of it when the process ends, however it ends.

    Args:
        folder: what is held.
        name: of the file that stands for it; each name is a lock of its own.
        wait: for another process to let go.

    Raises:
        InputError: another process holds it, and this one is not to wait.
    """
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            raise InputError(f"another process is writing to {folder}") from error
        yield
    finally:
        os.close(handle)


def git_revision(root: Path = PROJECT_ROOT) -> str | None:
    """The commit checked out at ``root``, with ``+changes`` when files differ from it; None outside a repository."""
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write_manifest(path: str | Path, **facts: object) -> None:
    """Write a JSON file that tells how a result was made: time, command, git revision, versions, platform, ``facts``.

    Args:
        path: the file to write, usually ``manifest.json`` beside the result.
        facts: anything JSON-ready (see ``to_plain``), such as hashes of weights and data.
    """
    manifest = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in _MANIFEST_PACKAGES if (version := _package_version(name))},
        **facts,
    }
    atomic_write_text(path, json.dumps(to_plain(manifest), indent=2, ensure_ascii=False) + "\n")


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def closest(name: str, known: Iterable[str]) -> str:
    """``", did you mean a, b?"`` with up to three of ``known`` that resemble ``name``; ``""`` when none does."""
    matches = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f", did you mean {', '.join(matches)}?" if matches else ""
