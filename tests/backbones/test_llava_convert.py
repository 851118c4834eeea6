"""A checkpoint in the published layout gives, once converted, the numbers and ids of the formulas it stands for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from ffaa.backbones.llava_convert import convert_llava
from ffaa.backbones.llava_layout import saved_name
from ffaa.backbones.mllm import MllmConfig, build_mllm
from ffaa.dialogue.prompts import FREE_QUESTIONS, SYSTEM_PROMPT
from ffaa.types import InputError
from tests.backbones import published_llava as published
from tests.backbones.published_llava import LORA_TARGETS, answers_of_transformers_alone, convert, lora, picture


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published.write(tmp_path_factory.mktemp("published"), published.weights(), published.settings())


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(source, tmp_path_factory.mktemp("made") / "out")


def test_logits_are_those_of_the_formulas(source: Path, made: Path) -> None:
    config = MllmConfig(base=str(made), image_size=published.SIDE, image_aspect="pad", template="vicuna_v1")
    mllm = build_mllm(config)
    assert type(mllm.model) is LlavaForConditionalGeneration
    sp = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    for size in ((43, 70), (90, 32), (32, 32), (31, 38)):
        prompt = mllm.prompt("Real or fake?")
        ids = published.reference_ids(sp, prompt)
        with torch.no_grad():
            expected = published.forward(published.weights(), ids, published.pixels(picture(*size)))
            found = mllm.model(
                input_ids=torch.tensor([mllm.prompt_ids(prompt)]), pixel_values=mllm.pixel_values([picture(*size)])
            ).logits[0]
        assert found.shape == (len(ids) - 1 + 16, 421)
        assert (found[:, :420] - expected).abs().max() < 1e-4
        assert expected.std() > 0.5  # it says something
        assert (found.argmax(-1) != 420).all()  # the row added for <image> is never the likeliest


@pytest.mark.parametrize("question", [*FREE_QUESTIONS, "Is  this\treal? Ünïcode 123 – ok", ""])
def test_the_prompt_s_ids_are_those_of_its_halves_apart(question: str, source: Path, made: Path) -> None:
    sp = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    processor = AutoProcessor.from_pretrained(made)
    prompt = f"{SYSTEM_PROMPT} USER: <image>\n{question} ASSISTANT:"
    expected: list[int] = []
    for index in published.reference_ids(sp, prompt):
        expected += [420] * 16 if index == -200 else [index]
    # after the picture stands the dummy prefix, then the newline's byte
    assert [sp.id_to_piece(index) for index in expected[expected.index(420) + 16 :][:2]] == ["▁", "<0x0A>"]
    turn = {"role": "user", "content": [{"type": "image", "image": picture()}, {"type": "text", "text": question}]}
    asked = processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert asked["input_ids"][0].tolist() == expected
    # servers leave the first token to the template
    rendered = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    assert rendered == f"<s>{prompt}"
    bare = rendered.replace("<image>", "<image>" * 16)
    assert processor.tokenizer(bare, add_special_tokens=False)["input_ids"] == expected
    mllm_ids = processor.tokenizer(prompt.replace("<image>", "<image>" * 16))["input_ids"]
    assert mllm_ids == expected


def test_answers_are_decoded_and_encoded_as_by_sentencepiece(source: Path, made: Path) -> None:
    sp = sentencepiece.SentencePieceProcessor(model_file=str(source / "tokenizer.model"))
    tokenizer = AutoProcessor.from_pretrained(made).tokenizer
    for text in ("Image description: a face\nForgery reasoning: smooth", "Analysis result: real", "ß 漢"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == sp.encode(text)
        assert tokenizer.decode(sp.encode(text)) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)


@pytest.mark.parametrize("kind", ["bin", "bin3", "safetensors3"])
@pytest.mark.parametrize("shard_bytes", [10**9, 40_000])
def test_every_tensor_is_there_once_whatever_the_files(kind: str, shard_bytes: int, tmp_path: Path) -> None:
    tensors = published.weights(seed=3)
    folder = published.write(tmp_path / "in", tensors, published.settings(), kind=kind)
    (tmp_path / "out").mkdir()
    account = convert_llava(folder, tmp_path / "out", shard_bytes=shard_bytes)
    assert account.used.keys() | account.dropped.keys() == tensors.keys()
    assert not account.used.keys() & account.dropped.keys()
    assert set(account.dropped) == {"model.image_newline", published.TOWER + "embeddings.position_ids"}
    assert "anyres" in account.dropped["model.image_newline"]
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert (len(files) > 3) == (shard_bytes == 40_000)
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    for name, saved in account.used.items():
        assert torch.equal(found[saved][: tensors[name].shape[0]], tensors[name]), name
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert len(model.state_dict()) == len(found) == len(account.used)
    assert torch.equal(model.model.vision_tower.pre_layrnorm.bias, tensors[published.TOWER + "pre_layrnorm.bias"])


def test_lora_upon_its_base(source: Path, tmp_path: Path) -> None:
    merged = lora(tmp_path / "llava-lora", published.weights())
    (tmp_path / "out").mkdir()
    account = convert_llava(tmp_path / "llava-lora", tmp_path / "out", base=source)
    found = load_file(tmp_path / "out/model.safetensors")
    for name, tensor in merged.items():
        saved, reason = saved_name(name, "published")
        if saved is not None:
            torch.testing.assert_close(found[saved][: tensor.shape[0]], tensor, atol=1e-6, rtol=1e-6)
        else:
            assert reason
    tower = [name for name, reason in account.dropped.items() if "never trained" in reason]
    assert len(tower) == 2 and all(".vision_tower." in name for name in tower)
    assert sum("lora_" in name for name in account.used) == 2 * published.LAYERS * len(LORA_TARGETS)


def test_lora_upon_a_base_that_was_converted_before(made: Path, source: Path, tmp_path: Path) -> None:
    lora(tmp_path / "lora", published.weights())
    one = convert(tmp_path / "lora", tmp_path / "one", base=source)
    two = convert(tmp_path / "lora", tmp_path / "two", base=made)
    left, right = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_an_adapter_of_the_tower_that_was_trained_is_merged(source: Path, tmp_path: Path) -> None:
    lora(tmp_path / "lora", published.weights(), tower_b=0.1)
    out = convert(tmp_path / "lora", tmp_path / "out", base=source)
    name = "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight"
    plain = published.weights()[published.TOWER + "encoder.layers.0.self_attn.q_proj.weight"]
    assert not torch.equal(load_file(out / "model.safetensors")[name], plain)


def test_a_checkpoint_without_tower_takes_one(tmp_path: Path, source: Path) -> None:
    tensors = published.weights()
    tower = {name.removeprefix("model.vision_tower.vision_tower."): t for name, t in tensors.items() if "tower" in name}
    rest = {name: tensor for name, tensor in tensors.items() if "tower" not in name}
    (tmp_path / "clip").mkdir()
    clip = {**tower, "logit_scale": torch.tensor(1.0), "text_model.final_layer_norm.bias": torch.zeros(3)}
    torch.save(clip, tmp_path / "clip/pytorch_model.bin")
    (tmp_path / "clip/config.json").write_text(json.dumps({"model_type": "clip", "vision_config": {}}))
    bare = published.write(tmp_path / "bare", rest, published.settings())
    with pytest.raises(InputError, match="brings no image tower and that of openai/clip-vit-large-patch14-336"):
        convert(bare, tmp_path / "none")
    out = convert(bare, tmp_path / "out", vision_tower=str(tmp_path / "clip"))
    whole = convert(source, tmp_path / "whole")
    left, right = load_file(out / "model.safetensors"), load_file(whole / "model.safetensors")
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    with pytest.raises(InputError, match="brings its own image tower"):
        convert(source, tmp_path / "both", vision_tower=str(tmp_path / "clip"))


def test_mistral_and_added_tokens_keep_their_settings(tmp_path: Path) -> None:
    values = published.settings(421, model_type="llava_mistral", sliding_window=None, image_aspect_ratio="anyres")
    folder = published.write(tmp_path / "in", published.weights(421), values)
    (folder / "added_tokens.json").write_text(json.dumps({"[PAD]": 420}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "[PAD]"}}))
    (tmp_path / "out").mkdir()
    account = convert_llava(folder, tmp_path / "out", dtype=torch.bfloat16)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    text = model.config.text_config
    assert (text.model_type, text.sliding_window, text.vocab_size) == ("mistral", None, 422)
    assert text.rope_parameters["rope_theta"] == published.ROPE_THETA and text.rms_norm_eps == published.EPS
    assert model.dtype == torch.bfloat16 and model.config.image_token_id == 421
    tokenizer = AutoProcessor.from_pretrained(tmp_path / "out").tokenizer
    assert (tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids("<image>")) == (420, 421)
    assert any("anyres" in note for note in account.notes)


def test_a_tokenizer_of_the_tokenizers_library_gets_the_prefix_too(made: Path, source: Path, tmp_path: Path) -> None:
    fast = AutoProcessor.from_pretrained(made).tokenizer.backend_tokenizer
    values = json.loads(fast.to_str())
    values["normalizer"] = None
    values["pre_tokenizer"] = {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False,
    }  # fmt: skip
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] != "<image>"]
    folder = published.write(tmp_path / "in", published.weights(), published.settings())
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(values))
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    )
    out = convert(folder, tmp_path / "out")
    prompt = f"{SYSTEM_PROMPT} USER: <image><image>\nReal? ASSISTANT:"
    expected = AutoProcessor.from_pretrained(made).tokenizer(prompt)["input_ids"]
    assert AutoProcessor.from_pretrained(out).tokenizer(prompt)["input_ids"] == expected


def test_transformers_alone_gives_the_same_answers(made: Path, tmp_path: Path) -> None:
    from ffaa.backbones.generation import GenerationSettings, TransformersEngine

    config = MllmConfig(base=str(made), image_size=published.SIDE, image_aspect="pad", template="vicuna_v1")
    questions = ["Real or fake?", FREE_QUESTIONS[0]]
    size = (32, 21)  # padded, and of the tower's size, so that no resize's rounding stands between
    engine = TransformersEngine(build_mllm(config), GenerationSettings(max_new_tokens=20))
    (ours,) = engine.ask([picture(*size)], [questions])
    assert answers_of_transformers_alone(made, size, questions, tmp_path) == [text.text for text in ours]
    assert len({text.text for text in ours}) == 2


def test_an_adapter_of_ours_upon_a_converted_base(made: Path, tmp_path: Path) -> None:
    """Exported by shards it equals the model that is loaded, tensor by tensor."""
    from ffaa.backbones.adapter import attach_lora, load_mllm, save_adapter
    from ffaa.backbones.export import check_export, export_model

    config = MllmConfig(base=str(made), image_size=published.SIDE, image_aspect="pad", template="vicuna_v1")
    model = attach_lora(build_mllm(config), config, seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.05)
    save_adapter(model, tmp_path / "run/mllm", torch.float32)
    (tmp_path / "out").mkdir()
    account = export_model(config, tmp_path / "run", tmp_path / "out", shard_bytes=60_000)
    adapter = load_file(tmp_path / "run/mllm/adapter_model.safetensors")
    assert adapter.keys() <= account.used.keys()
    check_export(tmp_path / "out")
    expected = load_mllm(config, tmp_path / "run").model.state_dict()
    found = build_mllm(replace(config, base=str(tmp_path / "out"))).model.state_dict()
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5)
    adapter["base_model.model.model.language_model.layers.7.self_attn.q_proj.lora_A.weight"] = torch.zeros(16, 64)
    save_file(adapter, tmp_path / "run/mllm/adapter_model.safetensors")
    with pytest.raises(InputError, match="without its other half"):
        export_model(config, tmp_path / "run", tmp_path / "out")
