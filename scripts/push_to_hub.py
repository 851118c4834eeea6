"""Share a checkpoint, or a plain folder of transformers, on the Hugging Face hub, with a generated model card.

With ``--dry_run`` nothing leaves the machine: the very folder that would be sent is written to ``--out``.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ffaa.config import Switch, parse, read_json
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, run_door, sha256_file
from ffaa.types import InputError

CARD = "README.md"
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PICKLES = {".bin", ".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".joblib"}
_LEFT_OUT = {"__pycache__"}
"""Beside all names that begin with a dot, such as .git, .cache and .env, which may hold secrets."""


@dataclass(frozen=True)
class Options:
    repo_id: str = ""
    """Where to: USER/NAME."""
    folder: Path = PROJECT_ROOT / "playground" / "mini"
    """Checkpoint of this project, or folder that transformers loads."""
    licence: str | None = None
    """As the hub spells it, such as apache-2.0 or other; with other, put a file LICENSE into the folder."""
    base_model: str | None = None
    """Id on the hub of what it was made from."""
    figures: Path | None = None
    """Markdown of what was measured, for the card (scripts/results_table.py prints tables)."""
    keep_card: Switch = True
    """A README.md that the folder holds stays; 0 replaces it by a generated card."""
    private: Switch = False
    """Make the repository private where it does not exist yet."""
    dry_run: Switch = False
    """Write what would be sent to --out, and send nothing."""
    out: Path | None = None
    """Folder for --dry_run; may not hold anything."""

    def __post_init__(self) -> None:
        if not _REPO_ID.fullmatch(self.repo_id):
            raise InputError(f"--repo_id is USER/NAME on the hub, not {self.repo_id!r}")
        if self.dry_run != (self.out is not None):
            raise InputError("--dry_run and --out go together")


def shared_files(folder: Path) -> list[Path]:
    """What is sent, sorted; raises InputError where the folder is nothing to share."""
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _is_shared(path.relative_to(folder)))
    if not any(path.suffix == ".safetensors" for path in files):
        raise InputError(f"{folder} holds no weights (*.safetensors)")
    if pickles := [path.relative_to(folder).as_posix() for path in files if _may_be_pickle(path)]:
        raise InputError(f"{folder} holds pickles ({', '.join(pickles)}), which could run code; convert them first")
    return files


def _is_shared(name: Path) -> bool:
    hidden = any(part.startswith(".") or part in _LEFT_OUT for part in name.parts)
    return not hidden and name.suffix != ".partial"


def _may_be_pickle(path: Path) -> bool:
    """By its name or by its first bytes, whatever its name: a pickle of protocol 2 to 5, or an archive of torch."""
    with path.open("rb") as opened:
        start = opened.read(4)
    return (
        path.suffix in _PICKLES
        or start == b"PK\x03\x04"
        or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05")
    )


def make_card(options: Options, files: list[Path]) -> str:
    """The model card from what the folder says of itself."""
    from ffaa.methods.checkpoint import CHECKPOINT_FILE, read_checkpoint
    from ffaa.reporting.model_card import model_card

    folder = options.folder
    facts = read_checkpoint(folder) if (folder / CHECKPOINT_FILE).is_file() else {}
    if not facts and not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds neither {CHECKPOINT_FILE} nor config.json, so nothing tells what it is")
    if options.figures is not None and not options.figures.is_file():
        raise InputError(f"no such file: {options.figures}")
    selector = folder / "mids" / "config.json"
    return model_card(
        facts,
        repo_id=options.repo_id,
        files=[
            (path.relative_to(folder).as_posix(), path.stat().st_size, sha256_file(path))
            for path in files
            if path.name != CARD
        ],
        selector=read_json(selector) if selector.is_file() else None,
        whole=(folder / "mllm" / "config.json").is_file(),
        licence=options.licence,
        base=options.base_model,
        figures=options.figures.read_text(encoding="utf-8").strip() if options.figures else None,
    )


def fill(options: Options, files: list[Path], card: str | None, new: Path) -> None:
    """Write what is shared to the folder ``new``."""
    for path in files:
        target = new / path.relative_to(options.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if card is not None:
        atomic_write_text(new / CARD, card)


def push(options: Options, files: list[Path], card: str | None) -> str:
    """Send these very files, and the card; the address of the commit.

    Raises:
        InputError: the network is off, nobody is logged in, or the hub refuses.
    """
    for name in ("HF_HUB_OFFLINE", "FFAA_OFFLINE"):
        if os.environ.get(name, "0").lower() not in ("", "0", "false", "no"):
            raise InputError(f"the network is off ({name}); --dry_run 1 --out DIR writes the folder without it")
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    from ffaa.assets.hub import hub_failures

    sources: dict[str, str | bytes] = {path.relative_to(options.folder).as_posix(): str(path) for path in files}
    if card is not None:
        sources[CARD] = card.encode()
    api = HfApi()
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=source) for name, source in sources.items()]
    with hub_failures(f"could not send to {options.repo_id}"):
        try:
            api.create_repo(options.repo_id, private=options.private, exist_ok=True)
            sent = api.create_commit(options.repo_id, operations, commit_message=f"{len(sources)} files")
        except LocalTokenNotFoundError as error:
            raise InputError("nobody is logged in to the hub; run: hf auth login") from error
    return str(sent.commit_url)


def main() -> int:
    options = parse(Options, prog="push_to_hub.py", description=__doc__ or "")
    from ffaa.training.state import made_beside

    files = shared_files(options.folder)
    kept = options.keep_card and (options.folder / CARD).is_file()
    card = None if kept else make_card(options, files)
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{len(files)} files, {size:.1f} MB; model card: {'that of the folder' if kept else 'generated'}")
    if options.out is None:
        print(push(options, files, card))
        return EXIT_DONE
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise InputError(f"{options.out} is there already and not an empty folder")
    if options.folder.resolve() in options.out.resolve().parents:
        raise InputError(f"--out {options.out} lies in {options.folder}, and would be shared with it the next time")
    with made_beside(options.out) as new:
        fill(options, files, card, new)
    print(f"{options.out}: what would be sent to {options.repo_id}; nothing was")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
