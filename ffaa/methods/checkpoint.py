"""Checkpoint folders of the methods: where they are, what they say of themselves, which weights stand beneath them.

``checkpoint.json`` of format 2 names every base by its hash and the conversation by that of its tokenizer and template;
one of format 1 knows the assets beneath it alone, and is still read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ffaa.assets import TABLE
from ffaa.assets.store import read_manifest
from ffaa.backbones.adapter import holds_whole_model, load_mllm
from ffaa.backbones.few_rows import prefer_few_rows
from ffaa.backbones.generation import GenerationSettings
from ffaa.backbones.identity import base_hash
from ffaa.backbones.mllm import Mllm, MllmConfig
from ffaa.backbones.quantized import check_quantization
from ffaa.backbones.templates import Template
from ffaa.backbones.vision import Source
from ffaa.runtime import (
    PROJECT_ROOT,
    Compute,
    config_hash,
    dtype_name,
    pick_device,
    pick_dtype,
    sha256_folder,
    to_plain,
)
from ffaa.types import InputError

CHECKPOINT_FILE = "checkpoint.json"
CHECKPOINT_FORMAT = 2
READABLE_FORMATS = (1, 2)
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
    if not isinstance(facts, dict) or facts.get("format") not in READABLE_FORMATS:
        known = " or ".join(map(str, READABLE_FORMATS))
        raise InputError(f"{path} is not of format {known}, which this version reads")
    if not isinstance(facts.get("towers", {}), dict):
        raise InputError(f"{path}: towers is no mapping of names to hashes")
    bases = facts.get("bases", {})
    if not isinstance(bases, dict) or not all(
        isinstance(base, dict) and isinstance(base.get("hash"), str) and "source" in base for base in bases.values()
    ):
        raise InputError(f"{path}: bases is no mapping of roles to source and hash")
    return facts


def tower_hash(source: Source) -> str:
    """What names a base's weights.

    The sha256 of an asset's model file; of a folder or a hub id what ``backbones.identity`` makes of its files, or the
    id itself before they were fetched; the hash of a mapping.
    """
    if not isinstance(source, str):
        return config_hash(source)
    if source not in TABLE:
        return base_hash(source) or source
    manifest = read_manifest(source) or {}
    return str(manifest.get("files", {}).get(TOWER_FILE, {}).get("sha256", TABLE[source].sha256))


def mllm_bases(config: MllmConfig) -> dict[str, Source]:
    """What a language model is built on, by role."""
    if config.base:
        return {"mllm.base": config.base}
    return {"mllm.vision": config.vision, "mllm.language": config.language}


def bases_beneath(config: MllmConfig, checkpoint: Path | None) -> dict[str, Source]:
    """`mllm_bases`, or nothing where the checkpoint holds the whole model."""
    return {} if checkpoint and holds_whole_model(checkpoint / "mllm") else mllm_bases(config)


def describe_bases(bases: Mapping[str, Source]) -> dict[str, dict[str, Any]]:
    """What ``checkpoint.json`` says of the bases: by role, where each came from and what names its weights."""
    return {role: {"source": to_plain(source), "hash": tower_hash(source)} for role, source in bases.items()}


@contextmanager
def on_its_bases(checkpoint: Path | None, bases: Mapping[str, Source]) -> Iterator[None]:
    """Refuse to load a checkpoint onto other bases than it was trained on; the block is what loads it.

    Checked before, and again afterwards what had to be fetched from the hub first. Another copy of an asset is only
    warned of, for the two origins of an asset are meant to replace one another.

    Args:
        checkpoint: its folder; one of format 1, or none, says nothing of its bases.
        bases: what is to stand beneath it, by role; of one part (``mllm``, ``mids``) all.

    Raises:
        InputError: another base, or other roles; names both.
    """
    if _bases_fit(checkpoint, bases):
        yield
    else:
        yield
        _bases_fit(checkpoint, bases)


def _bases_fit(checkpoint: Path | None, bases: Mapping[str, Source]) -> bool:
    """False where a base is still to be fetched; otherwise as `on_its_bases`."""
    parts = {role.partition(".")[0] for role in bases}
    recorded = _facts(checkpoint).get("bases", {})
    trained_on = {role: base for role, base in recorded.items() if role.partition(".")[0] in parts}
    if not trained_on:
        return True
    found = describe_bases(bases)
    if trained_on.keys() != found.keys():
        raise InputError(f"{checkpoint} was trained on {_named(trained_on)}, not on {_named(found)}")
    absent = False
    for role, base in found.items():
        before = trained_on[role]
        if base["hash"] == before["hash"]:
            continue
        if base["hash"] == base["source"]:
            absent = True
        elif base["source"] == before["source"] and base["source"] in TABLE:
            logger.warning("%s was trained on another copy of %s; its answers may differ", checkpoint, base["source"])
        else:
            raise InputError(f"{checkpoint} was trained on {_named({role: before})}, not on {_named({role: base})}")
    return not absent


def conversation_hash(mllm: Mllm) -> str:
    """What names how a conversation becomes numbers: every token with its id, and the layout of a turn."""
    return layout_hash(mllm.template, mllm.end_token_id, mllm.tokenizer)


def layout_hash(template: Template, end_token_id: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """`conversation_hash` of a model that is not loaded."""
    layout = [template.turn, template.answer_end, end_token_id]
    text = json.dumps([layout, sorted(tokenizer.get_vocab().items())])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def load_trained_mllm(
    config: MllmConfig, checkpoint: Path | None, model_dir: Path, *, compute: Compute, seed: int
) -> Mllm:
    """The language model of a method. Without a checkpoint: a whole published model, or random weights (size tiny).

    Raises:
        InputError: no checkpoint for a model whose projector would then be untrained; a base, tokenizer or template
            that the checkpoint was not trained on; bad device, dtype or weights; an attention that the model or the
            machine has not; a quantisation that cannot be had here.
    """
    random_weights = not isinstance(config.vision, str) and not isinstance(config.language, str)
    if checkpoint is None and config.base is None and not random_weights:
        raise InputError(f"{model_dir / 'model.yaml'} names no checkpoint, without which its projector is untrained")
    place = pick_device(compute.device)
    check_quantization(compute.quantize, whole=config.base is not None)
    if compute.quantize and place.type != "cuda":
        raise InputError(f"option quantize packs weights for a GPU, and the device is {place}")
    with on_its_bases(checkpoint, bases_beneath(config, checkpoint)):
        mllm = load_mllm(
            config,
            checkpoint,
            dtype=pick_dtype(compute.dtype, place),
            device=place,
            seed=seed,
            quantize=compute.quantize,
        )
    trained_with = _facts(checkpoint).get("conversation")
    if trained_with is not None and trained_with != conversation_hash(mllm):
        sources = " and ".join(str(source) for source in mllm_bases(config).values())
        raise InputError(
            f"{checkpoint} was trained with another tokenizer or layout of the conversation than {sources} and "
            f"template {config.template!r} give"
        )
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
    """Hashes of all that decides what the language model answers: its configuration, its bases, what was trained."""
    trained = {"mllm_checkpoint": _part_hash(checkpoint / "mllm")} if checkpoint else {}
    return {"mllm": config_hash(config), **base_hashes(bases_beneath(config, checkpoint), checkpoint), **trained}


def _part_hash(folder: Path) -> str:
    """Of an adapter all bytes; of a whole model, which may be of 15 GB, what names a base."""
    return (base_hash(str(folder)) if holds_whole_model(folder) else None) or sha256_folder(folder)


def base_hashes(bases: Mapping[str, Source], checkpoint: Path | None) -> dict[str, str]:
    """`tower_hash` of each base, the dot of its role as an underscore.

    Of a base that is not on this machine what the checkpoint says, so that answers kept elsewhere are known here.
    """
    hashes = {role: tower_hash(source) for role, source in bases.items()}
    recorded = _facts(checkpoint).get("bases", {})
    for role, source in bases.items():
        if hashes[role] == source and recorded.get(role, {}).get("source") == source:
            hashes[role] = recorded[role]["hash"]
    return {role.replace(".", "_"): found for role, found in hashes.items()}


def writer_identity(
    config: MllmConfig, checkpoint: Path | None, settings: GenerationSettings, compute: Compute
) -> dict[str, Any]:
    """What an answer depends on besides picture and question; of how it was computed, the precision alone."""
    precision = dtype_name(compute.dtype, pick_device(compute.device))
    # Greedy answers of trained weights depend on no seed; random weights are drawn from it.
    seed = settings.seed if settings.temperature or (checkpoint is None and config.base is None) else None
    packed = {"quantize": compute.quantize} if compute.quantize else {}
    return {**mllm_fingerprint(config, checkpoint), **to_plain(settings), "seed": seed, "dtype": precision, **packed}


def _check_towers(folder: Path, towers: Mapping[str, str]) -> None:
    for name, trained_on in towers.items():
        if name in TABLE and read_manifest(name) is not None and tower_hash(name) != trained_on:
            logger.warning("%s was trained on another copy of %s; its answers may differ", folder, name)


def _facts(checkpoint: Path | None) -> dict[str, Any]:
    """What a checkpoint says of itself; nothing where there is none, or it is the output of a stage."""
    return read_checkpoint(checkpoint) if checkpoint and (checkpoint / CHECKPOINT_FILE).is_file() else {}


def _named(bases: Mapping[str, Mapping[str, Any]]) -> str:
    """Bases for a message: role, source and the first digits of the hash."""
    return ", ".join(f"{role} {base['source']} ({base['hash'][:8]})" for role, base in bases.items())
