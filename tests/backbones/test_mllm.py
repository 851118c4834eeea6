from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from ffaa.backbones.mllm import CLIP_MEAN_COLOUR, Mllm, MllmConfig, build_mllm, pad_to_square
from ffaa.config import load_yaml
from ffaa.dialogue.prompts import SYSTEM_PROMPT
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import InputError

TINY: MllmConfig = load_yaml(PROJECT_ROOT / "configs/ffaa/tiny/model.yaml", FfaaConfig).mllm


def picture(width: int = 40, height: int = 50, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def mllm() -> Mllm:
    return build_mllm(TINY)


def test_it_is_a_plain_llava(mllm: Mllm) -> None:
    model = mllm.model
    assert type(model) is LlavaForConditionalGeneration
    assert not [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    assert not model.training
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight  # tied, as the language model is
    assert model.model.multi_modal_projector.linear_1.in_features == 2 * 32  # two feature layers side by side
    assert mllm.image_tokens == 16
    assert mllm.image_token_id < model.config.text_config.vocab_size


def test_prompt_is_the_layout_to_the_letter(mllm: Mllm) -> None:
    assert mllm.prompt("Real?") == "<|im_start|>user\n<image>\nReal?<|im_end|>\n<|im_start|>assistant\n"
    assert mllm.answer_end == "<|im_end|>"
    vicuna = build_mllm(replace(TINY, template="vicuna_v1"))
    assert vicuna.prompt("Real?") == f"{SYSTEM_PROMPT} USER: <image>\nReal? ASSISTANT:"
    assert vicuna.answer_end == "</s>"
    assert vicuna.end_token_id == vicuna.tokenizer.eos_token_id


def test_prompt_ids_are_those_of_the_processor(mllm: Mllm) -> None:
    prompt = mllm.prompt("Real or fake?")
    inputs = mllm.processor(images=picture(), text=prompt, return_tensors="pt")
    assert mllm.prompt_ids(prompt) == inputs["input_ids"][0].tolist()
    assert mllm.prompt_ids(prompt).count(mllm.image_token_id) == mllm.image_tokens
    assert torch.equal(mllm.pixel_values([picture()]), inputs["pixel_values"])


@pytest.mark.parametrize("template", ["chatml", "vicuna_v1"])
def test_the_stored_chat_template_renders_the_prompt(template: str) -> None:
    mllm = build_mllm(replace(TINY, template=template))
    content = [{"type": "image"}, {"type": "text", "text": "Real?"}]
    assert mllm.processor.apply_chat_template([{"role": "user", "content": content}]) == mllm.prompt("Real?")


def test_a_question_may_not_hold_control_tokens(mllm: Mllm) -> None:
    with pytest.raises(InputError, match="<image>"):
        mllm.prompt("What is <image>?")


def test_the_picture_is_seen_whole(mllm: Mllm) -> None:
    wide = Image.new("RGB", (64, 32), (255, 0, 0))
    wide.paste((0, 0, 255), (0, 0, 8, 32))  # a stripe that a centre crop would cut off
    pixels = mllm.pixel_values([wide])
    assert pixels.shape == (1, 3, 32, 32)
    assert pixels[0, 2, 16, 1] > pixels[0, 2, 16, 30] and pixels[0, 0, 16, 1] < pixels[0, 0, 16, 30]


def test_padding_centres_the_picture_on_the_mean_colour() -> None:
    padded = pad_to_square(Image.new("RGB", (10, 4), (255, 255, 255)))
    assert padded.size == (10, 10)
    assert padded.getpixel((5, 0)) == padded.getpixel((5, 9)) == CLIP_MEAN_COLOUR
    assert padded.getpixel((0, 5)) == (255, 255, 255)
    # a rest of one line goes below, as in the original code
    assert pad_to_square(Image.new("RGB", (7, 4), (255, 255, 255))).getpixel((0, 1)) == (255, 255, 255)
    padded_model = build_mllm(replace(TINY, image_aspect="pad"))
    corner = padded_model.pixel_values([Image.new("RGB", (64, 16), (255, 255, 255))])[0, :, 0, 0]
    assert corner.abs().max() < 0.05  # the mean colour is zero once normalised


def test_the_seed_fixes_the_weights_and_leaves_the_global_generator(mllm: Mllm) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    same, other = build_mllm(TINY), build_mllm(TINY, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [one.model.state_dict() for one in (mllm, same, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    changed = [name for name in states[0] if "projector" in name and not torch.equal(states[0][name], states[2][name])]
    assert len(changed) == 4


def test_saved_as_a_hub_folder_it_loads_by_auto_classes_and_as_a_base(mllm: Mllm, tmp_path: Path) -> None:
    mllm.model.save_pretrained(tmp_path)
    mllm.processor.save_pretrained(tmp_path)
    inputs = mllm.processor(images=picture(), text=mllm.prompt("Real?"), return_tensors="pt")
    with torch.inference_mode():
        wanted = mllm.model(**inputs).logits
        plain = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
        assert torch.equal(plain(**inputs).logits, wanted)
        processor = AutoProcessor.from_pretrained(tmp_path)
        again = processor(images=picture(), text=mllm.prompt("Real?"), return_tensors="pt")
        assert torch.equal(again["input_ids"], inputs["input_ids"])
        base = build_mllm(MllmConfig(base=str(tmp_path)))
        assert torch.equal(base.model(**inputs).logits, wanted)
    assert base.prompt_ids(base.prompt("Real?")) == mllm.prompt_ids(mllm.prompt("Real?"))


def test_a_vocabulary_without_the_image_token_grows_by_its_mean(mllm: Mllm, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab={**letters, "<|im_start|>": 256, "<|im_end|>": 257}, merges=[]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    language = LlamaForCausalLM(LlamaConfig(vocab_size=258, tie_word_embeddings=True, **sizes))
    language.save_pretrained(tmp_path)
    grown = build_mllm(replace(TINY, language=str(tmp_path)))
    table = grown.model.get_input_embeddings().weight
    assert table.shape == (259, 16) and grown.image_token_id == 258
    assert torch.equal(table[:258], language.model.embed_tokens.weight)
    assert torch.allclose(table[258], table[:258].mean(dim=0), atol=1e-7)
    assert grown.model.lm_head.weight is table
    assert grown.tokenizer.pad_token == "<|im_end|>"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"template": "chatlm"}, "chatml"),
        ({"language": "no/such-model"}, "no/such-model"),
        ({"base": "no/such-model"}, "no/such-model"),
        ({"image_size": 33}, "33"),
    ],
)
def test_what_cannot_be_built_is_said(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_mllm(replace(TINY, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [[1, 9], [], 7, -9])
def test_layers_that_the_tower_lacks_are_said(layers: int | list[int]) -> None:
    with pytest.raises(InputError, match="vision_feature_layer"):
        build_mllm(replace(TINY, vision_feature_layer=layers))


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("vision", {"hidden_size": 33, "num_attention_heads": 2}, "no image tower"),
        ("language", {"hidden_size": -1}, "no language model"),
    ],
)
def test_sizes_that_make_no_model_are_said(part: str, values: dict[str, int], message: str) -> None:
    changed: Any = {**getattr(TINY, part), **values}
    with pytest.raises(InputError, match=message):
        build_mllm(replace(TINY, **{part: changed}))
