"""What the authors of FFAA and of LLaVA publish on the Hugging Face hub: which files, and where each goes.

These are 15 GB a model, in layouts of their own; they are fetched into the hub's cache and converted by
``scripts/convert_checkpoint.py``.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from ffaa.assets.hub import hub_failures
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import InputError

logger = logging.getLogger(__name__)

_TEXT = ("*.json", "tokenizer.model")


@dataclass(frozen=True)
class Published:
    """One repository of the hub: what of it is needed, and the command that makes it usable here (None: as it is)."""

    hub_id: str
    about: str
    files: tuple[str, ...]
    place: str | None = None
    command: str | None = None


LLAVA_BASE = Published(
    "liuhaotian/llava-v1.6-mistral-7b",
    "LLaVA-v1.6-Mistral-7B, the base that FFAA was trained on (15 GB)",
    (*_TEXT, "*.safetensors"),
    "checkpoints/llava-v1.6-mistral-7b",
    "python scripts/convert_checkpoint.py --source liuhaotian/llava-v1.6-mistral-7b --to hf "
    "--out checkpoints/llava-v1.6-mistral-7b",
)
FFAA_WEIGHTS = Published(
    "thu-huangzc/ffaa-mistral-7b",
    "FFAA's language model and its selector mids.pth (16 GB)",
    (*_TEXT, "*.safetensors", "*.bin", "*.pth"),
    "checkpoints/ffaa-mistral-7b",
    "python scripts/convert_checkpoint.py --source thu-huangzc/ffaa-mistral-7b --out checkpoints/ffaa-mistral-7b",
)
TOWERS = (
    Published(
        "openai/clip-vit-large-patch14-336",
        "image tower that MIDS starts from (1.7 GB)",
        (*_TEXT, "model.safetensors", "pytorch_model.bin", "merges.txt"),
    ),
    Published("t5-base", "text encoder of MIDS (0.9 GB)", ("*.json", "spiece.model", "model.safetensors")),
)
COLLECTIONS = {"mistral": (LLAVA_BASE, FFAA_WEIGHTS, *TOWERS)}
BENCHMARKS = (
    ("OW-FFA-Bench", "https://drive.google.com/file/d/1867ZKwFCh_OLm-uUsiIiI9RjrUv0JMZX/view",
     "benchmark/{dfd,dfdc,dpf,mffdi,pgc,wfir}/"),
    ("Multi-attack, test split", "https://drive.google.com/file/d/1H9sPyqPzoXbFTkAVdaewIxDwMYlcZj53/view",
     "benchmark/ma/"),
)  # fmt: skip


def converted(hub_id: str) -> Path | None:
    """The converted copy of a published base; None where there is none, or it needs no conversion."""
    if hub_id != LLAVA_BASE.hub_id or LLAVA_BASE.place is None:
        return None
    folder = PROJECT_ROOT / LLAVA_BASE.place
    return folder if (folder / "config.json").is_file() else None


def needs_conversion(hub_id: str) -> str | None:
    """How to get a published base that only the original code reads; None for all others, and once it was converted."""
    if hub_id != LLAVA_BASE.hub_id or converted(hub_id) is not None:
        return None
    return f"python -m ffaa.assets fetch mistral, then {LLAVA_BASE.command}"


def fetch_collection(name: str, *, offline: bool) -> list[str]:
    """Put all of a collection into the hub's cache; lines that tell where each part is and what to do next.

    Raises:
        InputError: the network is off, or the hub cannot be reached; what was fetched before stays.
    """
    if offline or os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no"):
        raise InputError(
            f"{name} comes from the Hugging Face hub, and the network is off (FFAA_OFFLINE, HF_HUB_OFFLINE)"
        )
    lines = []
    for part in COLLECTIONS[name]:
        logger.info("%s: %s", part.hub_id, part.about)
        lines.append(f"{part.hub_id}: {_download(part)}")
    lines.append("next, in the project's folder:")
    lines += [f"  {part.command}" for part in COLLECTIONS[name] if part.command is not None]
    lines.append("benchmarks, by hand (their licences are for you to check):")
    lines += [f"  {title}: {link} -> {place}" for title, link, place in BENCHMARKS]
    return lines


def _download(part: Published) -> Path:
    from huggingface_hub import snapshot_download

    kept = "; check network, proxy and HF_ENDPOINT; what was fetched before is kept, and the same command goes on"
    with hub_failures(f"could not get {part.hub_id} from the hub", kept):
        return Path(snapshot_download(part.hub_id, allow_patterns=list(part.files)))
