"""A trained model as a plain Hugging Face folder: adapters merged, processor and chat template as it was trained.

``from_pretrained`` of transformers loads it without any code of this project, and so do servers built on it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoProcessor, LlavaImageProcessor, PreTrainedModel, ProcessorMixin

from ffaa.backbones.adapter import WEIGHTS_FILE, check_numbers, check_shapes, holds_whole_model, load_mllm
from ffaa.backbones.identity import local_folder
from ffaa.backbones.llava_convert import SHARD_BYTES, Account, convert_llava
from ffaa.backbones.llava_layout import saved_name
from ffaa.backbones.mllm import MllmConfig
from ffaa.backbones.templates import OWN, adds_bos, chat_template
from ffaa.backbones.weight_files import tensor_shapes, weight_files
from ffaa.config import read_json
from ffaa.types import InputError


def export_model(
    config: MllmConfig,
    checkpoint: Path,
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Account:
    """Write the language model of a checkpoint, or of a training's output, to the existing folder ``out``.

    On a base of the LLaVA layout it is merged shard by shard; an assembled model, or one of another family, is loaded
    for it. An exported tensor is refused where it is not a number.

    Args:
        config: of the model; its base must be on this machine.
        checkpoint: folder that holds the part ``mllm``.
        out: where to.
        dtype: of the output; None: of the base, or float32 of an assembled model.
        shard_bytes: most bytes of a file.

    Raises:
        InputError: no such part, a base that is not there or another one, or tensors that do not fit.
    """
    part = checkpoint / "mllm"
    if not part.is_dir():
        raise InputError(f"{checkpoint} holds no part mllm")
    if holds_whole_model(part):
        account = convert_llava(part, out, template=config.template, dtype=dtype, shard_bytes=shard_bytes)
    elif (base := _llava_base(config)) is not None:
        account = convert_llava(part, out, base=base, template=config.template, dtype=dtype, shard_bytes=shard_bytes)
    else:
        return _export_loaded(config, checkpoint, out, dtype, shard_bytes)
    if config.image_aspect == "pad":
        _pad_pictures(out, config.image_size)
    return account


def check_export(out: Path, wanted: dict[str, tuple[int, ...]] | None = None) -> int:
    """Read an exported folder back; how many tensors it holds.

    Raises:
        InputError: a tensor is missing, damaged, of another shape than ``wanted`` or no number.
    """
    files = weight_files(out)
    shapes = tensor_shapes(files)
    if not shapes or (wanted is not None and shapes != wanted):
        raise InputError(f"{out} does not hold what was to be written")
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():
                check_numbers({name: opened.get_tensor(name)}, file)
    return len(shapes)


def _llava_base(config: MllmConfig) -> Path | None:
    """The base's folder where it is a plain LLaVA on this machine."""
    place = local_folder(config.base) if config.base else None
    if place is None or not (place / "config.json").is_file():
        return None
    return place if read_json(place / "config.json").get("model_type") == "llava" else None


def _export_loaded(
    config: MllmConfig, checkpoint: Path, out: Path, dtype: torch.dtype | None, shard_bytes: int
) -> Account:
    mllm = load_mllm(config, checkpoint, dtype=dtype or (torch.bfloat16 if config.base else torch.float32))
    model: PreTrainedModel = mllm.model
    model.save_pretrained(out, max_shard_size=shard_bytes)
    processor = mllm.processor
    if config.template != OWN:
        processor.chat_template = chat_template(mllm.template, bos=adds_bos(mllm.tokenizer))
    processor.save_pretrained(out)
    if config.image_aspect == "pad":
        _pad_pictures(out, config.image_size)
    account = Account(notes=["the base was loaded whole, its tensors by the names that it holds them by in memory"])
    _check_names(model, out)
    account.used |= {name: name for name in model.state_dict()}
    with safe_open(checkpoint / "mllm" / WEIGHTS_FILE, framework="pt") as adapter:
        # load_mllm has refused an adapter with any tensor more or less than the model takes.
        for name in adapter.keys():
            account.used[name] = name.removeprefix("base_model.model.").partition(".lora_")[0]
    return account


def _check_names(model: PreTrainedModel, out: Path) -> None:
    """Whether a saved LLaVA holds all that it held in memory; of other families transformers alone knows the names."""
    if model.config.model_type != "llava":
        return
    held = {saved_name(name, "hf")[0]: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    written = {saved_name(name, "hf")[0]: shape for name, shape in tensor_shapes(weight_files(out)).items()}
    tied = {"language_model.lm_head.weight"} if model.config.tie_word_embeddings else set()
    check_shapes(
        {str(name): shape for name, shape in held.items() if name not in tied},
        {str(name): shape for name, shape in written.items() if name not in tied},
        out,
    )


def _pad_pictures(folder: Path, side: int) -> None:
    """Let the folder's own processor pad pictures to squares, as ``Mllm.pixel_values`` does here."""
    processor: ProcessorMixin = AutoProcessor.from_pretrained(folder)
    now = processor.image_processor
    processor.image_processor = LlavaImageProcessor(
        do_pad=True,
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=now.image_mean,
        image_std=now.image_std,
    )
    processor.save_pretrained(folder)
