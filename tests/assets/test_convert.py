from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from gguf import GGUFWriter
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ffaa.assets import convert
from ffaa.runtime import sha256_folder

LAYER = "vision_model.encoder.layers.0.self_attn.q_proj"
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"


def _quantised_graph(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A graph with one quantised layer (3 in, 2 out), a projection and a float tensor; (integers, scale, zero)."""
    integers = np.array([[1, -2], [3, 4], [-5, 6]], dtype=np.int8)
    scale, zero = np.array([0.5, 0.25], dtype=np.float32), np.array([1, -1], dtype=np.int8)
    constants = {
        "w_quantized": integers,
        "w_scale": scale,
        "w_zero_point": zero,
        f"{LAYER}.bias": np.array([1.0, 2.0], dtype=np.float32),
        "p_quantized": integers,
        "p_scale": scale,
        "p_zero_point": zero,
        "vision_model.pre_layrnorm.weight": np.ones(3, dtype=np.float32),
        "vision_model.embeddings.position_ids": np.arange(4)[None],
    }
    nodes = [
        helper.make_node("MatMulInteger", ["x", "w_quantized", "", "w_zero_point"], ["product"]),
        helper.make_node("Cast", ["product"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "w_scale"], ["scaled"]),
        helper.make_node("Add", [f"{LAYER}.bias", "scaled"], ["y"]),
        helper.make_node("MatMulInteger", ["x", "p_quantized", "", "p_zero_point"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph), str(path))
    return integers, scale, zero


def test_clip_weights_are_scaled_by_output_and_transposed(tmp_path: Path) -> None:
    integers, scale, zero = _quantised_graph(tmp_path / "clip_encoder.int8.onnx")
    out = tmp_path / "out"
    out.mkdir()
    convert.clip_vision_tower(tmp_path, out)
    tensors = load_file(out / "model.safetensors")
    assert sorted(tensors) == [f"{LAYER}.bias", f"{LAYER}.weight", "vision_model.pre_layrnorm.weight"]
    expected = ((integers.astype(np.float32) - zero) * scale).T
    np.testing.assert_array_equal(tensors[f"{LAYER}.weight"].numpy(), expected)
    assert json.loads((out / "preprocessor_config.json").read_text())["size"] == {"shortest_edge": 224}


def _tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's own converter lays out query and key."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_gguf(model: LlamaForCausalLM, path: Path, pre: str = "smollm") -> None:
    config = model.config
    writer = GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(8)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(260)
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens = [*control, *sorted(_byte_alphabet()), "he"]
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    names = {hf: gguf for gguf, hf in convert._LLAMA_BLOCK.items()}
    for name, tensor in model.state_dict().items():
        weight = tensor.numpy()
        parts = name.split(".")
        if name == "lm_head.weight":
            continue
        if name.startswith("model.layers."):
            kind = names[".".join(parts[3:-1])]
            if kind in ("attn_q", "attn_k"):
                weight = _interleaved(weight, 4 if kind == "attn_q" else 2)
            writer.add_tensor(f"blk.{parts[2]}.{kind}.weight", np.ascontiguousarray(weight))
        else:
            writer.add_tensor("token_embd.weight" if "embed" in name else "output_norm.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _byte_alphabet() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()


def test_gguf_round_trip(tmp_path: Path) -> None:
    model = _tiny_llama()
    _write_gguf(model, tmp_path / "m.gguf")
    out, again = tmp_path / "out", tmp_path / "again"
    for folder in (out, again):
        folder.mkdir()
        convert.llama_language_model(tmp_path, folder)
    assert sha256_folder(out) == sha256_folder(again)

    loaded, info = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert loaded.config.rms_norm_eps == model.config.rms_norm_eps
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        expected = model.to(torch.bfloat16).float()(ids).logits
        torch.testing.assert_close(loaded(ids).logits, expected)

    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.convert_ids_to_tokens(tokenizer("he 42<|im_end|>").input_ids) == [
        "he",
        "Ġ",
        "4",
        "2",
        "<|im_end|>",
    ]
    text = "  é 漢字\n0.87 <|im_start|>"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == (
        "<|im_end|>",
        "<|im_end|>",
        "<|im_start|>",
    )
    assert (
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "<|im_start|>x<|im_end|>"
    )


def test_gguf_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(convert.ConversionError, match=r"expected one \.gguf file, found 0"):
        convert.llama_language_model(tmp_path, tmp_path)
    _write_gguf(_tiny_llama(), tmp_path / "m.gguf", pre="qwen2")
    with pytest.raises(convert.ConversionError, match="unknown kind of tokenizer qwen2"):
        convert.llama_language_model(tmp_path, tmp_path)
    with pytest.raises(convert.ConversionError, match=r"unknown tensor blk\.0\.ffn_exps\.weight"):
        convert._llama_name("blk.0.ffn_exps.weight")


def test_dcgan_checkpoint(tmp_path: Path) -> None:
    generator = {"main.0.weight": torch.randn(100, 8, 4, 4), "main.1.num_batches_tracked": torch.tensor(3)}
    torch.save({"netG_state_dict": generator, "epoch": 1}, tmp_path / "weights.tar")
    out = tmp_path / "out"
    out.mkdir()
    convert.dcgan_generator(tmp_path, out)
    tensors = load_file(out / "model.safetensors")
    assert sorted(tensors) == sorted(generator)
    assert all(torch.equal(tensors[name], generator[name]) for name in generator)
    torch.save({"netD_state_dict": {}}, tmp_path / "weights.tar")
    with pytest.raises(convert.ConversionError, match="netG_state_dict"):
        convert.dcgan_generator(tmp_path, out)
