"""Turns what the wheels hold into plain Hugging Face folders: safetensors, JSON configs and tokenizers.

Each function reads a folder of taken files and writes another. Output depends on the input bytes alone: no time
stamps, no library versions, tensors in sorted order, so that its hash is the same on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from onnx import GraphProto, NodeProto

CLIP_VISION_CONFIG: Mapping[str, Any] = {
    "architectures": ["CLIPVisionModel"],
    "attention_dropout": 0.0,
    "dtype": "float32",
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "image_size": 224,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 12,
    "num_channels": 3,
    "num_hidden_layers": 12,
    "patch_size": 16,
    "projection_dim": 512,
}
CLIP_PREPROCESSOR_CONFIG: Mapping[str, Any] = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 224},
}
DCGAN_CONFIG: Mapping[str, Any] = {"channels": [512, 256, 128, 64, 3], "image_size": 64, "latent_size": 100}

# How many nodes may lie between an integer product and the addition of its bias: cast, scale, add.
_BIAS_DISTANCE = 6
_GGUF_CONTROL_TOKEN = 3
_LLAMA_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class ConversionError(Exception):
    """The file is not laid out as the pinned one is."""


def clip_vision_tower(taken: Path, out: Path) -> None:
    """``clip_encoder.int8.onnx`` -> folder of a float32 ``CLIPVisionModel`` (ViT-B/16) with its image processor.

    Raises ConversionError when the graph is not the pinned one.
    """
    import torch

    weights = dequantised_clip(taken / "clip_encoder.int8.onnx")
    write_clip({name: torch.from_numpy(weight) for name, weight in weights.items()}, out)


def write_clip(tensors: Mapping[str, torch.Tensor], out: Path) -> None:
    """A ``CLIPVisionModel`` folder of ViT-B/16 at 224 px from its tensors (``vision_model.*``)."""
    # Indices are a buffer that the model makes by itself.
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(".position_ids")}
    _save_tensors(kept, out / "model.safetensors")
    _save_json(CLIP_VISION_CONFIG, out / "config.json")
    _save_json(CLIP_PREPROCESSOR_CONFIG, out / "preprocessor_config.json")


def dequantised_clip(path: Path) -> dict[str, np.ndarray]:
    """Float32 weights of the vision model in an int8 ONNX graph, by their Hugging Face names.

    A quantised matrix is stored as (in, out) with a scale and a zero point for each output; its name is lost and is
    told by the bias that is added to its product. The projection into the joint space is left out.
    """
    import onnx
    from onnx import numpy_helper

    graph: GraphProto = onnx.load(str(path)).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    weights = {name: np.array(value) for name, value in stored.items() if name.startswith("vision_model.")}
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        quantised = node.input[1]
        stem = quantised.removesuffix("_quantized")
        layer = _layer_of(node.output[0], readers, stored)
        if layer is None:
            continue
        zero, scale = (np.asarray(stored[stem + end], dtype=np.float32) for end in ("_zero_point", "_scale"))
        matrix = (stored[quantised].astype(np.float32) - zero) * scale
        weights[layer + ".weight"] = np.ascontiguousarray(matrix.T)
    wrong = [name for name, weight in weights.items() if name.endswith(".weight") and weight.dtype != np.float32]
    if wrong:
        raise ConversionError(f"weights left quantised: {', '.join(sorted(wrong)[:3])}")
    return weights


def _layer_of(output: str, readers: Mapping[str, list[NodeProto]], stored: Mapping[str, np.ndarray]) -> str | None:
    """Name of the linear layer whose integer product is ``output``, None for one without a bias (the projection)."""
    for _ in range(_BIAS_DISTANCE):
        if not readers.get(output):
            return None
        node = readers[output][0]
        biases = [name for name in node.input if name in stored and name.endswith(".bias")]
        if node.op_type == "Add" and biases:
            return biases[0].removesuffix(".bias")
        output = node.output[0]
    return None


def llama_language_model(taken: Path, out: Path) -> None:
    """A quantised Llama GGUF file -> folder of a bfloat16 ``LlamaForCausalLM`` with tokenizer and chat template.

    Raises ConversionError when there is not exactly one GGUF file of that architecture.
    """
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize

    files = sorted(taken.glob("*.gguf"))
    if len(files) != 1:
        raise ConversionError(f"expected one .gguf file, found {len(files)}")
    reader = GGUFReader(files[0])
    facts = {name: field.contents() for name, field in reader.fields.items()}
    if facts.get("general.architecture") != "llama":
        raise ConversionError(f"{files[0].name} holds {facts.get('general.architecture')}, not a Llama model")

    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    tensors: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type).reshape(tuple(int(n) for n in tensor.shape[::-1]))
        kind = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
        if kind in heads:
            weight = _unpermute(weight, heads[kind])
        tensors[_llama_name(tensor.name)] = torch.from_numpy(np.array(weight)).to(torch.bfloat16)
    _save_tensors(tensors, out / "model.safetensors")
    config = _llama_config(facts)
    _save_json(config, out / "config.json")
    special = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _save_json(special, out / "generation_config.json")
    _save_tokenizer(facts, out)


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rotary halves side by side, as Hugging Face has them; GGUF interleaves the two within each head."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))


def _llama_name(name: str) -> str:
    """Hugging Face's name of a tensor of a Llama GGUF file."""
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}  # fmt: skip
    if name in whole:
        return whole[name]
    parts = name.split(".")
    if len(parts) != 4 or parts[0] != "blk" or parts[2] not in _LLAMA_BLOCK:
        raise ConversionError(f"unknown tensor {name}")
    return f"model.layers.{parts[1]}.{_LLAMA_BLOCK[parts[2]]}.{parts[3]}"


def _llama_config(facts: Mapping[str, Any]) -> dict[str, Any]:
    """``config.json`` from the facts that the GGUF file states of its model."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "dtype": "bfloat16",
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "head_dim": facts["llama.rope.dimension_count"],
        "hidden_act": "silu",
        "hidden_size": facts["llama.embedding_length"],
        "initializer_range": 0.02,
        "intermediate_size": facts["llama.feed_forward_length"],
        "max_position_embeddings": facts["llama.context_length"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
        # GGUF keeps the value in single precision; the digits beyond are noise.
        "rms_norm_eps": float(f"{facts['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_parameters": {"rope_theta": facts["llama.rope.freq_base"], "rope_type": "default"},
        "rope_theta": facts["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": facts["llama.vocab_size"],
    }


def _save_tokenizer(facts: Mapping[str, Any], out: Path) -> None:
    """The byte-level BPE tokenizer of a GGUF file of the ``smollm`` kind: digits stand alone, no prefix space."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    if facts.get("tokenizer.ggml.pre") != "smollm":
        raise ConversionError(f"unknown kind of tokenizer {facts.get('tokenizer.ggml.pre')}")
    tokens = facts["tokenizer.ggml.tokens"]
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in facts["tokenizer.ggml.merges"])]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = facts["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _GGUF_CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(out / "tokenizer.json"))
    _save_json(
        {
            "add_prefix_space": False,
            "bos_token": tokens[facts["tokenizer.ggml.bos_token_id"]],
            "chat_template": facts["tokenizer.chat_template"],
            "clean_up_tokenization_spaces": False,
            "eos_token": tokens[facts["tokenizer.ggml.eos_token_id"]],
            "model_max_length": facts["llama.context_length"],
            "pad_token": tokens[facts["tokenizer.ggml.padding_token_id"]],
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": tokens[facts["tokenizer.ggml.unknown_token_id"]],
        },
        out / "tokenizer_config.json",
    )


def dcgan_generator(taken: Path, out: Path) -> None:
    """``weights.tar``, a torch checkpoint, -> ``model.safetensors`` of its generator (``main.N.*``) and a config.

    Raises ConversionError when the checkpoint has no generator.
    """
    import torch

    checkpoint = torch.load(taken / "weights.tar", map_location="cpu", weights_only=True)
    if "netG_state_dict" not in checkpoint:
        raise ConversionError("weights.tar has no netG_state_dict")
    _save_tensors(checkpoint["netG_state_dict"], out / "model.safetensors")
    _save_json(DCGAN_CONFIG, out / "config.json")


def _save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensors[name].contiguous() for name in sorted(tensors)}, path, metadata={"format": "pt"})


def _save_json(value: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


CONVERSIONS: Mapping[str, Callable[[Path, Path], None]] = {
    "clip_vision_tower": clip_vision_tower,
    "llama_language_model": llama_language_model,
    "dcgan_generator": dcgan_generator,
}
