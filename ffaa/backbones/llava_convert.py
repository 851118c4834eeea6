"""LLaVA checkpoints from the original code's layout, or an update upon a base, to a plain Hugging Face folder.

Read shard by shard and written shard by shard: in memory are at most one file of the source and one of the output. What
became of every source tensor is kept in an ``Account``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, GenerationConfig, LlavaConfig, PreTrainedTokenizerBase, ProcessorMixin

from ffaa.backbones.adapter import check_shapes
from ffaa.backbones.identity import local_folder
from ffaa.backbones.llava_layout import (
    check_settings,
    joined_config,
    language_config,
    layout_of,
    looks_like,
    saved_name,
    vision_config,
    wanted_shapes,
)
from ffaa.backbones.lora_files import Update, read_update
from ffaa.backbones.published_tokenizer import has_tokenizer, llava_processor, published_tokenizer
from ffaa.backbones.templates import OWN, TEMPLATES, adds_bos, chat_template, own_template
from ffaa.backbones.weight_files import ShardWriter, open_shard, tensor_shapes, weight_files
from ffaa.config import read_json
from ffaa.types import InputError

SHARD_BYTES = 5 * 10**9
_EMBEDDING, _HEAD = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"


@dataclass
class Account:
    """What became of every tensor of the source, and where those of the output come from."""

    used: dict[str, str] = field(default_factory=dict)
    """Source tensor -> output tensor."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Source tensor -> reason."""
    notes: list[str] = field(default_factory=list)
    """What else was decided."""

    def lines(self) -> list[str]:
        """For people: how many were used, and each that was not."""
        told: dict[str, list[str]] = {}
        for name, reason in self.dropped.items():
            told.setdefault(reason, []).append(name)
        counted = f"{len(self.used)} tensors used, {len(self.dropped)} dropped"
        return [
            counted,
            *(f"  dropped: {', '.join(_some(names))}: {reason}" for reason, names in told.items()),
            *(f"  {note}" for note in self.notes),
        ]


@dataclass(frozen=True)
class Part:
    """Files of weights, and in which layout their names are."""

    files: Sequence[Path]
    layout: str


@dataclass
class Plan:
    """All that is decided before a tensor is copied."""

    parts: list[Part]
    config: LlavaConfig
    processor: ProcessorMixin
    update: Update | None
    account: Account
    end_token_id: int
    dtype: torch.dtype


def convert_llava(
    source: Path,
    out: Path,
    *,
    base: Path | None = None,
    vision_tower: str | None = None,
    template: str = "vicuna_v1",
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Account:
    """Write the model of ``source`` to the folder ``out``, which ``from_pretrained`` loads as it is.

    Args:
        source: a folder in the original code's layout, merged or LoRA; a plain LLaVA of transformers; or the part
            ``mllm`` of a checkpoint of this project, whose base is such a folder.
        out: an existing empty folder.
        base: what LoRA adapters in ``source`` were trained on.
        vision_tower: folder or hub id of the image tower, for checkpoints that bring none.
        template: layout of the conversation, see ``TEMPLATES``; ``own`` keeps that of a plain LLaVA.
        dtype: of the output; None: as the source says.
        shard_bytes: most bytes of a file.

    Raises:
        InputError: the source is something else, incomplete, damaged, or does not fit its base; says what and where.
    """
    plan = make_plan(source, base=base, vision_tower=vision_tower, template=template, dtype=dtype)
    _write_tensors(plan, ShardWriter(out, shard_bytes))
    plan.config.dtype = plan.dtype
    plan.config.save_pretrained(out)
    tokenizer = plan.processor.tokenizer
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=plan.end_token_id, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(out)
    plan.processor.save_pretrained(out)
    return plan.account


def make_plan(
    source: Path, *, base: Path | None, vision_tower: str | None, template: str, dtype: torch.dtype | None
) -> Plan:
    """Names, shapes, settings and tokenizer checked; raises InputError as `convert_llava` does."""
    update = None
    weights = source
    if (source / "adapter_config.json").is_file():
        update = read_update(source)
        if base is None:
            named = f", which it calls {update.base_name!r}" if update.base_name else ""
            raise InputError(f"{source} holds LoRA adapters; give the model that they were trained on (--base){named}")
        weights = base
    elif base is not None:
        raise InputError(f"{source} holds no LoRA adapters, so --base has no meaning: {looks_like(source)}")
    layout = layout_of(weights)
    values = read_json(weights / "config.json")
    files = weight_files(weights)
    if not files:
        raise InputError(f"{weights} holds no weights (model*.safetensors or pytorch_model*.bin)")
    account = Account(notes=[])
    parts = [Part(files, layout)]
    shapes = _shapes(parts[0], account)
    notes: list[str] = []
    if layout == "hf":
        config, processor = _of_plain(weights, template)
    else:
        check_settings(values, weights)
        # The adapters' own config says how their training showed pictures.
        shown = read_json(source / "config.json") if update and (source / "config.json").is_file() else values
        told, tower = _tower(weights, shapes, values, vision_tower, account)
        parts += [tower] if tower else []
        tokens = next((folder for folder in (source, weights) if has_tokenizer(folder)), weights)
        config, processor, notes = _of_published(weights, values, shown, shapes, told, tokens, template)
    account.notes += notes
    if update is not None:
        update.check(shapes)
        account.used |= update.used
        account.dropped |= update.dropped
    wanted = wanted_shapes(config)
    found = {name: shape for name, shape in shapes.items() if name != _HEAD or name in wanted}  # a tied head goes
    if layout == "published":
        rows = shapes[_EMBEDDING][0]
        for name in {_EMBEDDING, _HEAD} & found.keys():
            if found[name][0] == rows:
                found[name] = (wanted[name][0], *found[name][1:])
    check_shapes(wanted, found, weights)
    precision = dtype or _dtype(values, files)
    return Plan(parts, config, processor, update, account, _end(processor, template), precision)


def _shapes(part: Part, account: Account) -> dict[str, tuple[int, ...]]:
    """Shapes by name as saved; what is dropped goes to the account, what is unknown is refused."""
    shapes: dict[str, tuple[int, ...]] = {}
    unknown = []
    for name, shape in tensor_shapes(part.files).items():
        saved, reason = saved_name(name, part.layout)
        if saved is not None:
            shapes[saved] = shape
        elif reason is not None:
            account.dropped[name] = reason
        else:
            unknown.append(name)
    if unknown:
        raise InputError(
            f"{part.files[0].parent} holds {len(unknown)} tensors that no LLaVA model has: {', '.join(_some(unknown))}"
        )
    return shapes


def _tower(
    folder: Path,
    shapes: dict[str, tuple[int, ...]],
    values: Mapping[str, Any],
    given: str | None,
    account: Account,
) -> tuple[dict[str, Any], Part | None]:
    """The image tower's configuration, and its files where it is not in the checkpoint itself."""
    name = values.get("mm_vision_tower") or values.get("vision_tower")
    inside = any(one.startswith("vision_tower.") for one in shapes)
    if inside and given:
        raise InputError(f"{folder} brings its own image tower, which was trained further; leave out --vision_tower")
    place = local_folder(given or str(name))
    config = read_json(place / "config.json") if place and (place / "config.json").is_file() else {}
    told = config.get("vision_config", config)
    if inside:
        account.notes.append("the image tower inside the checkpoint is kept")
        return vision_config(shapes, name, told), None
    files = weight_files(place) if place else []
    if not files:
        raise InputError(
            f"{folder} brings no image tower and that of {given or name} is not on this machine; give it as "
            "--vision_tower DIR"
        )
    part = Part(files, "clip")
    shapes |= _shapes(part, account)
    account.notes.append(f"the image tower is that of {given or name}")
    return vision_config(shapes, name, told), part


def _of_published(
    folder: Path,
    values: Mapping[str, Any],
    shown: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    vision: Mapping[str, Any],
    tokens: Path,
    template: str,
) -> tuple[LlavaConfig, ProcessorMixin, list[str]]:
    """Configuration and processor of a checkpoint in the original layout."""
    if template not in TEMPLATES:
        raise InputError(f"template is {' or '.join(TEMPLATES)} for the original layout, not {template!r}")
    tokenizer = published_tokenizer(tokens)
    language = language_config(values, folder)
    if _EMBEDDING not in shapes:
        raise InputError(f"{folder} lacks model.embed_tokens.weight")
    rows = shapes[_EMBEDDING][0]
    image_token_id = int(tokenizer.convert_tokens_to_ids("<image>"))
    if rows != language["vocab_size"]:
        raise InputError(f"{folder}: {rows} tokens have a row, but its config.json says {language['vocab_size']}")
    if image_token_id > rows:
        raise InputError(
            f"{tokens} holds the tokenizer of another model: {image_token_id} tokens, but only {rows} have a row"
        )
    language["vocab_size"] = max(rows, image_token_id + 1)
    language["pad_token_id"] = tokenizer.pad_token_id
    config = joined_config(shown, language, vision, image_token_id)
    aspect = shown.get("image_aspect_ratio", "square")
    processor = llava_processor(
        tokenizer,
        vision,
        pad=aspect in ("pad", "anyres"),
        strategy=config.vision_feature_select_strategy,
        template=template,
    )
    notes = []
    if aspect == "anyres":
        notes.append("image_aspect_ratio is anyres; the output shows one padded view, as FFAA was trained")
    if image_token_id == rows:
        notes.append("one row was added to embeddings and output for <image>: the mean of the others, never read")
    return config, processor, notes


def _of_plain(folder: Path, template: str) -> tuple[LlavaConfig, ProcessorMixin]:
    """Configuration and processor of a folder that transformers loads already."""
    try:
        config = LlavaConfig.from_pretrained(folder)
        processor = AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot read the model in {folder}: {str(error).strip().splitlines()[0]}") from error
    if template != OWN:
        if template not in TEMPLATES:
            raise InputError(f"template is {', '.join(TEMPLATES)} or {OWN}, not {template!r}")
        processor.chat_template = chat_template(TEMPLATES[template], bos=adds_bos(processor.tokenizer))
    return config, processor


def _end(processor: ProcessorMixin, template: str) -> int:
    tokenizer: PreTrainedTokenizerBase = processor.tokenizer
    answer_end = own_template(processor).answer_end if template == OWN else TEMPLATES[template].answer_end
    end = tokenizer.convert_tokens_to_ids(answer_end)
    if end is None or end == tokenizer.unk_token_id:
        raise InputError(f"template {template!r} ends answers by {answer_end!r}, which is no token")
    return int(end)


def _dtype(values: Mapping[str, Any], files: Sequence[Path]) -> torch.dtype:
    """What the configuration says, else what its first tensor has."""
    told = values.get("dtype") or values.get("torch_dtype")
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if told in known:
        return known[told]
    with open_shard(files[0]) as shard:
        return shard.read(shard.names()[0]).dtype


def _write_tensors(plan: Plan, writer: ShardWriter) -> None:
    wanted = wanted_shapes(plan.config)
    written = set()
    for part in plan.parts:
        for file in part.files:
            with open_shard(file) as shard:
                for name in shard.names():
                    saved, _ = saved_name(name, part.layout)
                    if saved is None:
                        continue
                    if saved not in wanted:  # nothing else was let through
                        plan.account.dropped[name] = "the output layer is tied to the embeddings"
                        continue
                    tensor = shard.read(name)
                    if plan.update is not None:
                        tensor = plan.update.apply(saved, tensor)
                    writer.add(saved, _grown(tensor, wanted[saved]), plan.dtype)
                    written.add(saved)
                    plan.account.used[name] = saved
    if missing := wanted.keys() - written:
        raise RuntimeError(f"not written: {sorted(missing)}")
    writer.close()


def _grown(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """With so many rows as ``shape``: new ones are the mean of the others."""
    if tuple(tensor.shape) == shape:
        return tensor
    mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
    return torch.cat([tensor, mean.expand(shape[0] - tensor.shape[0], -1)])


def _some(names: Sequence[str], most: int = 3) -> list[str]:
    return [*names[:most], *([f"and {len(names) - most} more"] if len(names) > most else [])]
