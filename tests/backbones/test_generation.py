from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import GenerationConfig

from ffaa.backbones.generation import (
    DecidingTokens,
    GenerationSettings,
    TransformersEngine,
    opening_tokens,
    verdict_tokens,
)
from ffaa.backbones.mllm import Mllm, MllmConfig, Opening, build_mllm
from ffaa.config import load_yaml
from ffaa.dialogue.answers import format_answer
from ffaa.dialogue.prompts import FREE_QUESTIONS
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import GeneratedText, InputError, Verdict

TINY: MllmConfig = load_yaml(PROJECT_ROOT / "configs/ffaa/tiny/model.yaml", FfaaConfig).mllm
ANSWER = format_answer("A face.", "Nothing odd.", Verdict.REAL, 0.9, None)


@pytest.fixture(scope="module")
def mllm() -> Mllm:
    return build_mllm(TINY)


def pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)) for i in range(count)]


def prompts(mllm: Mllm, count: int) -> list[list[str]]:
    """Rows of different lengths: one, two or three questions of different lengths about a picture."""
    return [[mllm.prompt(FREE_QUESTIONS[(i + k) % 10][: 8 + 9 * k]) for k in range(1 + i % 3)] for i in range(count)]


def with_common_end(mllm: Mllm) -> Mllm:
    """The same model, ending answers at a token that many rows write early and others late or never."""
    settings = GenerationSettings(max_new_tokens=24)
    texts = TransformersEngine(mllm, settings).generate(pictures(4), prompts(mllm, 4))
    written = [mllm.tokenizer(text.text, add_special_tokens=False)["input_ids"] for row in texts for text in row]
    share = {token: sum(token in row for row in written) for row in written for token in row}
    return replace(mllm, end_token_id=min(share, key=lambda token: abs(share[token] - len(written) / 2)))


def test_a_batch_gives_what_its_rows_give_alone(mllm: Mllm) -> None:
    ending = with_common_end(mllm)
    engine = TransformersEngine(ending, GenerationSettings(max_new_tokens=24))
    images, asked = pictures(4), prompts(mllm, 4)
    together = engine.generate(images, asked)
    alone = [
        [engine.generate([image], [[prompt]])[0][0] for prompt in row] for image, row in zip(images, asked, strict=True)
    ]
    assert [[text.text for text in row] for row in together] == [[text.text for text in row] for row in alone]
    assert [[text.finished for text in row] for row in together] == [[text.finished for text in row] for row in alone]
    finished = {text.finished for row in together for text in row}
    assert finished == {True, False}  # early ends and cut answers were both among them
    assert len({text.text for row in together for text in row}) > 4


@pytest.mark.slow
def test_fifty_pictures_with_three_questions_give_what_each_row_gives_alone(mllm: Mllm) -> None:
    engine = TransformersEngine(mllm, GenerationSettings(max_new_tokens=16))
    images = pictures(50)
    asked = [[mllm.prompt(question) for question in FREE_QUESTIONS[i % 8 : i % 8 + 3]] for i in range(50)]
    alone = [
        [engine.generate([image], [[prompt]])[0][0].text for prompt in row]
        for image, row in zip(images, asked, strict=True)
    ]
    assert [[text.text for text in row] for row in engine.generate(images, asked)] == alone


def test_it_writes_what_the_plain_model_writes(mllm: Mllm) -> None:
    image, prompt = pictures(1)[0], mllm.prompt("Real?")
    inputs = mllm.processor(images=image, text=prompt, return_tensors="pt")
    ids = mllm.model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    text = TransformersEngine(mllm, GenerationSettings(max_new_tokens=16)).generate([image], [[prompt]])[0][0]
    kept = ids[: ids.tolist().index(mllm.end_token_id)] if mllm.end_token_id in ids else ids
    assert text.text == mllm.tokenizer.decode(kept, skip_special_tokens=True).strip()


def test_each_picture_is_encoded_once(mllm: Mllm) -> None:
    seen: list[int] = []
    tower = mllm.model.model.vision_tower
    hook = tower.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(args[0] if args else kwargs["pixel_values"])), with_kwargs=True
    )
    TransformersEngine(mllm, GenerationSettings(max_new_tokens=4)).generate(pictures(3), [[mllm.prompt("a")] * 3] * 3)
    hook.remove()
    assert seen == [3]


def test_what_prompts_begin_with_is_read_once_a_picture(mllm: Mllm) -> None:
    shapes: list[tuple[int, int]] = []
    language = mllm.model.model.language_model
    hook = language.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple((kwargs["inputs_embeds"]).shape[:2])), with_kwargs=True
    )
    questions = ["Real?", "Is it a real face?", "Fake?"]
    asked = [[mllm.prompt(question) for question in questions]] * 2
    TransformersEngine(mllm, GenerationSettings(max_new_tokens=3)).generate(pictures(2), asked)
    hook.remove()
    ids = [mllm.prompt_ids(prompt) for prompt in asked[0]]
    start = max(place for place, token in enumerate(ids[0]) if token == mllm.image_token_id) + 1
    assert shapes[0] == (2, start)
    assert shapes[1] == (6, max(map(len, ids)) - start)
    assert all(shape == (6, 1) for shape in shapes[2:])


def test_prompts_that_differ_before_the_picture_are_refused(mllm: Mllm) -> None:
    prompt = mllm.prompt("Real?")
    with pytest.raises(ValueError, match="differ before the picture"):
        TransformersEngine(mllm, GenerationSettings()).generate(pictures(1), [[prompt, f"Look. {prompt}"]])


def test_the_way_of_other_layouts_gives_the_same(mllm: Mllm) -> None:
    class Other(TransformersEngine):
        _prefilled = TransformersEngine._encoded

    settings = GenerationSettings(max_new_tokens=12)
    images, asked = pictures(4), prompts(mllm, 4)
    assert Other(mllm, settings).generate(images, asked) == TransformersEngine(mllm, settings).generate(images, asked)


def test_pictures_without_prompts_and_no_pictures_at_all(mllm: Mllm) -> None:
    engine = TransformersEngine(mllm, GenerationSettings(max_new_tokens=6))
    assert engine.generate([], []) == []
    assert engine.generate(pictures(1), [[]]) == [[]]
    asked = [[], [mllm.prompt("Real?")]]
    assert engine.generate(pictures(2), asked) == [[], engine.generate(pictures(2)[1:], asked[1:])[0]]
    with pytest.raises(ValueError, match="2 pictures but 1"):
        engine.generate(pictures(2), [[]])


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"max_new_tokens": -1}, {"temperature": -0.5}])
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        GenerationSettings(**wrong)  # type: ignore[arg-type]


def test_samples_differ_by_seed_and_place_but_not_by_batch(mllm: Mllm) -> None:
    def sample(seed: int, count: int, start: int = 0) -> list[list[GeneratedText]]:
        engine = TransformersEngine(mllm, GenerationSettings(max_new_tokens=12, temperature=1.0, seed=seed))
        return engine.generate(pictures(3)[start : start + count], [[mllm.prompt("Real?")] * 3] * count)

    state = torch.random.get_rng_state()
    together = sample(0, 3)
    assert together[1:2] == sample(0, 1, start=1)
    assert len({text.text for text in together[0]}) == 3
    assert sample(1, 3) != together
    assert torch.equal(torch.random.get_rng_state(), state)


def test_sampling_follows_the_model_s_probabilities() -> None:
    from ffaa.backbones.generation import _GumbelNoise

    logits = torch.tensor([0.0, 1.0, 2.0])
    rows = 20_000
    nothing, scores = torch.LongTensor(rows, 0), torch.FloatTensor(logits.expand(rows, 3))
    noisy = _GumbelNoise(2.0, range(rows))(nothing, scores)
    shares = torch.bincount(noisy.argmax(dim=1), minlength=3) / rows
    assert torch.allclose(shares, torch.softmax(logits / 2.0, dim=0), atol=0.02)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (ANSWER, "real"),
        ("Analysis result: fake", "fake"),
        ("The real one.\nAnalysis result: fake\nAnalysis result: real", "fake"),
        ("**Analysis Result:** real", "real"),
        ("3. analysis result : fake", "fake"),
        ("It is real, not fake.", None),
        ("Analysis result: unsure", None),
        ("So the Analysis result: real", None),
        ("", None),
    ],
)
def test_the_verdict_token_is_found_where_the_verdict_is(mllm: Mllm, text: str, place: str | None) -> None:
    tokens = verdict_tokens(mllm.tokenizer)
    ids = mllm.tokenizer(text, add_special_tokens=False)["input_ids"]
    found = tokens.locate(ids)
    assert (None if found is None else mllm.tokenizer.decode(ids[found:])[:4]) == place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Image description: a face.\nForgery reasoning: No editing found.", "No"),
        ("Forgery reasoning: Signs of synthesis", "Signs"),
        ("No editing. Forgery reasoning: No", None),
        ("Image description: No face.\nForgery reasoning: A blur", None),
        ("", None),
    ],
)
def test_the_opening_is_found_where_an_answer_first_decides(mllm: Mllm, text: str, place: str | None) -> None:
    ids = mllm.tokenizer(text, add_special_tokens=False)["input_ids"]
    found = opening_tokens(mllm.tokenizer, Opening("Forgery reasoning:", "No", "Signs")).locate(ids)
    assert (found is None) is (place is None)
    assert place is None or mllm.tokenizer.decode(ids[found:]).startswith(place)


def test_an_opening_must_decide(mllm: Mllm) -> None:
    with pytest.raises(InputError, match="decides nothing: .So same. and .So same. begin alike"):
        opening_tokens(mllm.tokenizer, Opening("So", "same", "same"))


def test_the_score_is_fake_s_share_at_the_verdict_token(mllm: Mllm, monkeypatch: pytest.MonkeyPatch) -> None:
    place = 3
    opening = Opening("Forgery reasoning:", "No", "Signs")
    mllm = replace(mllm, config=replace(mllm.config, opening=opening))
    monkeypatch.setattr(DecidingTokens, "locate", lambda self, ids: place)
    images, asked = pictures(2), [[mllm.prompt("Real?")], [mllm.prompt("Is this face real or fake? Why?")]]
    engine = TransformersEngine(replace(mllm, end_token_id=-1), GenerationSettings(max_new_tokens=8))
    monkeypatch.setattr(engine, "_generation_config", lambda: GenerationConfig(max_new_tokens=8, pad_token_id=0))
    written: list[list[int]] = []
    read = engine._read

    def note(row: list[int], logits: list[list[list[float]]]) -> GeneratedText:
        written.append(row)
        return read(row, logits)

    monkeypatch.setattr(engine, "_read", note)
    texts = [row[0] for row in engine.generate(images, asked)]
    for image, (prompt,), ids, text in zip(images, asked, written, texts, strict=True):
        sequence = torch.tensor([mllm.prompt_ids(prompt) + ids[:place]])
        with torch.inference_mode():
            logits = mllm.model(input_ids=sequence, pixel_values=mllm.pixel_values([image])).logits[0, -1]
        verdict, opened = verdict_tokens(mllm.tokenizer), opening_tokens(mllm.tokenizer, opening)
        for score, tokens in ((text.score, verdict), (text.opening_score, opened)):
            wanted = torch.softmax(logits[[tokens.real, tokens.fake]], dim=0)[1]
            assert score == pytest.approx(float(wanted), abs=1e-5)


def test_an_answer_ends_before_its_end_token(mllm: Mllm) -> None:
    engine = TransformersEngine(mllm, GenerationSettings())
    ids = mllm.tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
    logits = torch.zeros(len(ids) + 3, 1, 2)
    logits[verdict_tokens(mllm.tokenizer).locate(ids), 0, 1] = 2.0
    steps = logits.tolist()
    ended = engine._read([*ids, mllm.end_token_id, *ids[:2]], steps)
    assert (ended.text, ended.finished) == (ANSWER, True)
    assert ended.score == pytest.approx(1 / (1 + np.exp(-2)))
    assert not engine._read(ids, steps).finished
    assert engine._read(ids[:9], steps).score is None


class Cramped(TransformersEngine):
    """Has memory for so many answers at once and no more."""

    room = 0
    error: BaseException = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def generate(self, images: Sequence[Image.Image], prompts: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        rows = sum(map(len, prompts))
        self.calls = [*getattr(self, "calls", []), rows]
        if rows > self.room:
            raise self.error
        return super().generate(images, prompts)


@pytest.mark.parametrize(
    "error",
    [
        Cramped.error,
        RuntimeError("[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        MemoryError(),
    ],
)
def test_what_does_not_fit_in_memory_is_halved_until_it_does(
    mllm: Mllm, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    settings, questions = GenerationSettings(max_new_tokens=6), ["Real?", "Is it fake?", "Why?"]
    wanted = TransformersEngine(mllm, settings).ask(pictures(5), [questions] * 5)
    engine = Cramped(mllm, settings)
    engine.room, engine.error = 4, error
    assert engine.ask(pictures(5), [questions] * 5) == wanted
    assert engine.calls[:3] == [15, 6, 3] and max(engine.calls[2:]) <= 3
    assert "out of memory with 15 answers at once; from here on 7" in caplog.text
    engine.calls = []
    assert engine.ask(pictures(2), [questions] * 2) == wanted[:2]
    assert engine.calls == [3, 3]  # it is not tried again with what did not fit
    engine.room = 2
    assert engine.ask(pictures(1), [questions]) == wanted[:1]
    engine.room = 0
    with pytest.raises(InputError, match="one answer to one picture does not fit in memory"):
        engine.ask(pictures(1), [questions])


def test_other_errors_are_no_lack_of_memory(mllm: Mllm) -> None:
    engine = Cramped(mllm, GenerationSettings(max_new_tokens=6))
    engine.error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        engine.ask(pictures(2), [["Real?"]] * 2)


def test_what_a_picture_takes_of_memory_is_estimated(mllm: Mllm) -> None:
    short, long = (TransformersEngine(mllm, GenerationSettings(max_new_tokens=n)) for n in (10, 1000))
    assert 0 < short.picture_bytes(1) < short.picture_bytes(3) < long.picture_bytes(3)
    text = mllm.model.config.get_text_config()
    width = text.hidden_size // text.num_attention_heads
    a_token = 2 * text.num_hidden_layers * text.num_key_value_heads * width * 4
    assert long.picture_bytes(3) - short.picture_bytes(3) == 3 * 990 * a_token
