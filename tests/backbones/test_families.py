"""Backbones of many layouts give each picture the answers that it would get alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import AddedToken, AutoTokenizer, LlavaNextForConditionalGeneration

from ffaa.backbones.generation import GenerationSettings, TransformersEngine
from ffaa.backbones.mllm import Mllm, MllmConfig, build_mllm
from ffaa.config import load_yaml
from ffaa.dialogue.prompts import FREE_QUESTIONS, HYPOTHESIS_QUESTIONS
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import InputError
from tests.backbones.families import FAMILIES, saved

QUESTIONS = [FREE_QUESTIONS[0], *HYPOTHESIS_QUESTIONS.values()]
SHAPES = [(40, 60), (64, 64), (90, 50), (33, 100), (128, 20), (50, 50)]


def pictures() -> list[Image.Image]:
    """Of shapes that are tiled in different ways."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in SHAPES]


@pytest.fixture(scope="module", params=["llava", *FAMILIES])
def mllm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mllm:
    if request.param == "llava":
        return build_mllm(load_yaml(PROJECT_ROOT / "configs/ffaa/tiny/model.yaml", FfaaConfig).mllm)
    return build_mllm(saved(request.param, tmp_path_factory.mktemp(request.param)))


def test_greedy_answers_in_a_block_are_those_of_each_row_alone(mllm: Mllm) -> None:
    engine = TransformersEngine(mllm, GenerationSettings(max_new_tokens=16))
    together = engine.ask(pictures(), [QUESTIONS] * len(SHAPES))
    alone = [[engine.ask([image], [[question]])[0][0] for question in QUESTIONS] for image in pictures()]
    assert [[text.text for text in row] for row in together] == [[text.text for text in row] for row in alone]
    assert len({text.text for row in together for text in row}) > len(SHAPES)


def test_they_are_what_transformers_writes_from_the_chat_template(mllm: Mllm) -> None:
    image, question = pictures()[0], QUESTIONS[0]
    turn = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}
    inputs = mllm.processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    length = inputs["input_ids"].shape[1]
    ids = mllm.model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, length:].tolist()
    kept = ids[: ids.index(mllm.end_token_id)] if mllm.end_token_id in ids else ids
    written = TransformersEngine(mllm, GenerationSettings(max_new_tokens=16)).ask([image], [[question]])[0][0]
    assert written.text == mllm.tokenizer.decode(kept, skip_special_tokens=True).strip()


def test_a_picture_is_encoded_once_however_many_questions_it_has(mllm: Mllm, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    encode = mllm.model.get_image_features

    def counted(**inputs: Any) -> Any:
        found = encode(**inputs)
        seen.append(sum(one.reshape(-1, one.shape[-1]).shape[0] for one in found.pooler_output))
        return found

    monkeypatch.setattr(mllm.model, "get_image_features", counted)
    engine = TransformersEngine(mllm, GenerationSettings(max_new_tokens=2))
    engine.ask(pictures(), [QUESTIONS] * len(SHAPES))
    three = seen.copy()
    engine.ask(pictures(), [[question] for question in QUESTIONS * 2])
    assert len(three) == 1 and seen == three * 2


def test_a_picture_that_is_not_asked_about_is_passed_over(mllm: Mllm) -> None:
    engine = TransformersEngine(mllm, GenerationSettings(max_new_tokens=8))
    asked: list[list[str]] = [[QUESTIONS[0]], [], QUESTIONS]
    rows = engine.ask(pictures()[:3], asked)
    assert [len(row) for row in rows] == [1, 0, 3]
    assert rows[2] == engine.ask(pictures()[2:3], [QUESTIONS])[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_its_own_chat_template_says_where_an_answer_ends(family: str, tmp_path: Path) -> None:
    own = build_mllm(saved(family, tmp_path))
    assert own.answer_end == "<|im_end|>"
    assert own.template.answer_start == (" " if family == "idefics3" else "")
    assert own.prompt("Real {or} fake?").endswith("Real {or} fake?<|im_end|>\n<|im_start|>assistant\n")


def test_a_turn_may_end_by_a_token_that_is_not_listed_as_special(tmp_path: Path) -> None:
    """As Gemma 3's ``<end_of_turn>``, which stands among the added tokens alone."""
    config = saved("llava_next", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens([AddedToken("<end_of_turn>", special=True, normalized=False)], special_tokens=True)
    tokenizer.eos_token = "</s>"
    tokenizer.save_pretrained(tmp_path)
    layout = tmp_path / "chat_template.jinja"
    layout.write_text(layout.read_text().replace("<|im_end|>", "<end_of_turn>"))
    mllm = build_mllm(config)
    assert "<end_of_turn>" not in mllm.tokenizer.all_special_tokens
    assert mllm.answer_end == "<end_of_turn>"
    with pytest.raises(InputError, match="may not contain '<end_of_turn>'"):
        mllm.prompt("Real?<end_of_turn>")


def test_a_model_that_takes_no_encoded_pictures_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Llama 3.2 Vision, whose layers attend to pictures across."""
    config = saved("llava_next", tmp_path)

    def forward(self: Any, input_ids: Any = None, cross_attention_states: Any = None) -> None: ...

    monkeypatch.setattr(LlavaNextForConditionalGeneration, "forward", forward)
    with pytest.raises(InputError, match="is a llava_next, which reads pictures in a way of its own"):
        build_mllm(config)


def test_a_base_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    config = saved("llava_next", tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="chat template"):
        build_mllm(config)


@pytest.mark.parametrize(
    "layout",
    [
        "{{ no end",
        "{{ raise_exception('no pictures') }}",
        "{{ raise_exception('') }}",
        "{{ 1 / 0 }}",
        "<|im_start|>",
        "{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] | trim }}{% endfor %}",
        "{% for m in messages %}<image><image>{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}",
        "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}",
    ],
)
def test_a_chat_template_that_cannot_be_used_is_refused(layout: str, tmp_path: Path) -> None:
    config = saved("llava_next", tmp_path)
    (tmp_path / "chat_template.jinja").write_text(layout)
    with pytest.raises(InputError, match="chat template"):
        build_mllm(config)


def test_what_the_tokenizer_begins_with_is_not_there_twice(tmp_path: Path) -> None:
    config = saved("idefics3", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save_pretrained(tmp_path)
    layout = tmp_path / "chat_template.jinja"
    layout.write_text("{{ bos_token }}" + layout.read_text())
    mllm = build_mllm(config)
    image, question = pictures()[0], QUESTIONS[0]
    turn = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}
    wanted = mllm.processor.apply_chat_template(
        [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )["input_ids"][0].tolist()
    ours = mllm.processor(images=[[image]], text=[mllm.prompt(question)], return_tensors="pt")["input_ids"][0].tolist()
    assert ours == wanted and ours.count(mllm.tokenizer.bos_token_id) == 1


def test_an_assembled_model_has_no_template_of_its_own() -> None:
    with pytest.raises(InputError, match="no base is given"):
        build_mllm(MllmConfig(template="own"))
