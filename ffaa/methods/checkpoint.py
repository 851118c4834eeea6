"""Checkpoint folders of the methods: where they are, what they say of themselves, which weights stand beneath them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffaa.assets import TABLE
from ffaa.assets.store import read_manifest
from ffaa.backbones.adapter import load_mllm
from ffaa.backbones.few_rows import prefer_few_rows
from ffaa.backbones.generation import GenerationSettings
from ffaa.backbones.mllm import Mllm, MllmConfig
from ffaa.runtime import PROJECT_ROOT, Compute, config_hash, pick_device, pick_dtype, sha256_folder, to_plain
from ffaa.types import InputError

CHECKPOINT_FILE = "checkpoint.json"
CHECKPOINT_FORMAT = 1
TOWER_FILE = "model.safetensors"

logger = logging.getLogger(__name__)


def find_checkpoint(configured: str | None, override: Path | None, methods: tuple[str, ...]) -> Path | None:
    """The folder to load: ``override``, else the configured one (relative to the project's root), else None.

    Args:
        configured: ``checkpoint`` of the model's YAML.
        override: ``--checkpoint``.
        methods: names that its ``checkpoint.json`` may give as its method.

    Raises:
        InputError: the folder is not there, or is not a checkpoint of such a method.
    """
    if override is None and configured is None:
        return None
    folder = Path(override) if override is not None else PROJECT_ROOT / str(configured)
    if not (folder / CHECKPOINT_FILE).is_file():
        problem = f"{folder} holds no {CHECKPOINT_FILE}" if folder.is_dir() else f"no such folder: {folder}"
        raise InputError(
            f"{problem}; a checkpoint is made by training (README, Train), or --checkpoint names the folder of another"
        )
    facts = read_checkpoint(folder)
    if facts.get("method") not in methods:
        raise InputError(
            f"{folder} holds a checkpoint of method {facts.get('method')!r}, wanted {' or '.join(methods)}"
        )
    _check_towers(folder, facts.get("towers", {}))
    return folder


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself (``checkpoint.json``).

    Raises:
        InputError: no such file, not JSON, or of another format than this code reads.
    """
    path = folder / CHECKPOINT_FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(facts, dict) or facts.get("format") != CHECKPOINT_FORMAT:
        raise InputError(f"{path} is not of format {CHECKPOINT_FORMAT}, the only one that this version reads")
    if not isinstance(facts.get("towers", {}), dict):
        raise InputError(f"{path}: towers is no mapping of names to hashes")
    return facts


def tower_hash(source: str | Mapping[str, Any]) -> str:
    """What names a tower's weights: the sha256 of an asset's model file, a hub id or folder, the hash of a mapping."""
    if not isinstance(source, str):
        return config_hash(source)
    if source not in TABLE:
        return source
    manifest = read_manifest(source) or {}
    return str(manifest.get("files", {}).get(TOWER_FILE, {}).get("sha256", TABLE[source].sha256))


def load_trained_mllm(
    config: MllmConfig, checkpoint: Path | None, model_dir: Path, *, compute: Compute, seed: int
) -> Mllm:
    """The language model of a method. Without a checkpoint: a whole published model, or random weights (size tiny).

    Raises:
        InputError: no checkpoint for a model whose projector would then be untrained; bad device, dtype or weights; an
            attention that the model or the machine has not.
    """
    random_weights = not isinstance(config.vision, str) and not isinstance(config.language, str)
    if checkpoint is None and config.base is None and not random_weights:
        raise InputError(f"{model_dir / 'model.yaml'} names no checkpoint, without which its projector is untrained")
    place = pick_device(compute.device)
    mllm = load_mllm(config, checkpoint, dtype=pick_dtype(compute.dtype, place), device=place, seed=seed)
    if compute.attn_implementation is not None:
        try:
            mllm.model.set_attn_implementation(compute.attn_implementation)
        except (ValueError, ImportError) as error:
            reason = str(error).strip().split("\n", 1)[0]
            raise InputError(f"no attention {compute.attn_implementation!r} for this model: {reason}") from error
    if compute.compile:
        # Lengths and numbers of rows change from step to step.
        mllm.model.get_decoder().compile(dynamic=True)
    else:
        prefer_few_rows(mllm.model)
    return mllm


def mllm_fingerprint(config: MllmConfig, checkpoint: Path | None) -> dict[str, str]:
    """Hashes of all that decides what the language model answers: its configuration, its towers, what was trained."""
    sources = {"base": config.base} if config.base else {"vision": config.vision, "language": config.language}
    return {
        "mllm": config_hash(config),
        **{f"mllm_{name}": tower_hash(source) for name, source in sources.items()},
        **({"mllm_checkpoint": sha256_folder(checkpoint / "mllm")} if checkpoint else {}),
    }


def writer_identity(
    config: MllmConfig, checkpoint: Path | None, settings: GenerationSettings, compute: Compute
) -> dict[str, Any]:
    """What an answer depends on besides picture and question; of how it was computed, the precision alone."""
    precision = str(pick_dtype(compute.dtype, pick_device(compute.device))).removeprefix("torch.")
    # Greedy answers of trained weights depend on no seed; random weights are drawn from it.
    seed = settings.seed if settings.temperature or (checkpoint is None and config.base is None) else None
    return {**mllm_fingerprint(config, checkpoint), **to_plain(settings), "seed": seed, "dtype": precision}


def _check_towers(folder: Path, towers: Mapping[str, str]) -> None:
    for name, trained_on in towers.items():
        if name in TABLE and read_manifest(name) is not None and tower_hash(name) != trained_on:
            logger.warning("%s was trained on another copy of %s; its answers may differ", folder, name)
