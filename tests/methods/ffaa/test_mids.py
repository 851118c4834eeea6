import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from ffaa.methods.ffaa.mids import Mids, MidsConfig, MidsProcessor, build_mids, load_mids, resize_and_crop, save_mids
from ffaa.methods.ffaa.mids_blocks import CrossBlock, VisionStream
from ffaa.types import InputError

TINY = MidsConfig(
    vision={
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 48,
        "patch_size": 16,
    },
    text={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 262,
        "max_position_embeddings": 128,
    },
    hidden_dim=32,
    heads=4,
    image_size=32,
    max_text_tokens=96,
    mask_answers=False,
)
PUBLISHED = MidsConfig(
    vision={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
    },
    text={
        "model_type": "t5",
        "d_model": 768,
        "d_kv": 64,
        "d_ff": 3072,
        "num_layers": 12,
        "num_heads": 12,
        "vocab_size": 32128,
    },
)
ANSWERS = [["smooth skin", "a seam around the jaw", "light fits"], ["blurred eyes", "sharp", "nothing to see here"]]


def pictures(count: int = 2, width: int = 60, height: int = 40) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(count)]


def batch(model: Mids) -> dict[str, torch.Tensor]:
    return MidsProcessor(model.settings, model.tokenizer)(pictures(), ANSWERS)


def count(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters)


def test_published_size_has_the_published_counts() -> None:
    model = build_mids(PUBLISHED, device="meta")
    assert sum(count(module.parameters()) for module in model.new_modules()) == 28_780_036
    assert count(model.trainable_state().values()) == 53_972_484
    assert count(p for p in model.parameters() if p.requires_grad) == 53_972_484
    assert count(model.text_encoder.parameters()) == 109_628_544
    assert count(model.image_encoder.parameters()) == 303_507_456
    assert next(model.parameters()).is_meta


def test_logits_do_not_depend_on_the_batch() -> None:
    model = build_mids(TINY)
    inputs = batch(model)
    with torch.no_grad():
        logits = model(**inputs).logits
        longer = {
            "pixel_values": inputs["pixel_values"],
            "input_ids": nn.functional.pad(inputs["input_ids"], (0, 17)),
            "attention_mask": nn.functional.pad(inputs["attention_mask"], (0, 17)),
        }
        torch.testing.assert_close(model(**longer).logits, logits, atol=1e-5, rtol=0)
        # what stands under the padding is of no account either
        noisy = torch.where(longer["attention_mask"].bool(), longer["input_ids"], 77)
        torch.testing.assert_close(model(**{**longer, "input_ids": noisy}).logits, logits, atol=1e-5, rtol=0)
        for row in range(2):
            alone = MidsProcessor(TINY, model.tokenizer)(pictures()[row : row + 1], [ANSWERS[row][:1]])
            torch.testing.assert_close(model(**alone).logits[0, 0], logits[row, 0], atol=1e-5, rtol=0)
    assert logits.shape == (2, 3, 4)


def test_without_the_mask_padding_moves_the_logits_as_published() -> None:
    model = build_mids(replace(TINY, padding_mask=False))
    inputs = batch(model)
    padded = {name: nn.functional.pad(inputs[name], (0, 17)) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        difference = model(**inputs).logits - model(pixel_values=inputs["pixel_values"], **padded).logits
    assert difference.abs().max() > 1e-4


def reference_stream(
    stream: VisionStream, vision: torch.Tensor, text: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """The published equations with torch's own attention, picture states copied for every answer."""

    def cross(block: CrossBlock, query: torch.Tensor, context: torch.Tensor, hidden: torch.Tensor | None = None):
        own = block.attention
        attention = nn.MultiheadAttention(query.shape[-1], own.heads, batch_first=True)
        parts = (own.query, own.key, own.value)
        attention.in_proj_weight.data = torch.cat([part.weight for part in parts])
        attention.in_proj_bias.data = torch.cat([part.bias for part in parts])
        attention.out_proj.load_state_dict(own.out.state_dict())
        return block.norm(attention(query, context, context, key_padding_mask=hidden, need_weights=False)[0])

    image = stream.projector(stream.norm(vision))
    class_token = stream.class_projector(image[:, 0]).repeat_interleave(len(text) // len(image), dim=0)
    image = image.repeat_interleave(len(text) // len(image), dim=0)
    from_text = cross(stream.text_reads_image, text, image)
    from_image = cross(stream.image_reads_text, image, text, ~mask)
    text_query, image_query = (query.expand(len(text), 1, -1) for query in (stream.text_query, stream.image_query))
    pooled = cross(stream.text_pool, text_query, from_text, ~mask), cross(stream.image_pool, image_query, from_image)
    return torch.cat([class_token[:, None], *pooled], dim=1)


@pytest.mark.parametrize("normalize", [False, True])
def test_streams_compute_the_published_equations(normalize: bool) -> None:
    model = build_mids(replace(TINY, normalize_vision=normalize))
    inputs = batch(model)
    with torch.no_grad():
        mask = inputs["attention_mask"].flatten(0, 1)
        text = model.text_states(inputs["input_ids"].flatten(0, 1), mask)
        for stream, vision in zip(model.streams, model.vision_states(inputs["pixel_values"]), strict=True):
            assert isinstance(stream, VisionStream)
            expected = reference_stream(stream, vision, text, mask.bool())
            torch.testing.assert_close(stream(vision, text, mask.bool()), expected, atol=1e-5, rtol=1e-4)


def test_instance_norm_leaves_out_what_is_alike_all_over_a_picture() -> None:
    plain, normed = build_mids(TINY), build_mids(replace(TINY, instance_norm=True))
    inputs = batch(plain)
    mask = inputs["attention_mask"].flatten(0, 1)
    generator = torch.Generator().manual_seed(0)
    gain, shift = (torch.rand(48, generator=generator) * 2 + 0.5 for _ in range(2))
    with torch.no_grad():
        text = plain.text_states(inputs["input_ids"].flatten(0, 1), mask)
        vision = plain.vision_states(inputs["pixel_values"])
        other = [states * gain + shift for states in vision]
        torch.testing.assert_close(normed.head(other, text, mask), normed.head(vision, text, mask), atol=2e-2, rtol=0)
        assert (plain.head(other, text, mask) - plain.head(vision, text, mask)).abs().max() > 0.1


def test_vision_states_are_the_towers_hidden_states() -> None:
    model = build_mids(replace(TINY, vision_layers=(-1, -2, 0, 2)))
    pixels = batch(model)["pixel_values"]
    with torch.no_grad():
        hidden = model.image_encoder(pixels, output_hidden_states=True).hidden_states
        states = model.vision_states(pixels)
    for layer, state in zip((-1, -2, 0, 2), states, strict=True):
        torch.testing.assert_close(state, hidden[layer], atol=1e-6, rtol=1e-5)


def test_training_moves_what_it_should_and_nothing_else() -> None:
    model = build_mids(TINY).train()
    frozen = list(model.text_encoder.modules()) + list(model.image_encoder.encoder.layers[:2])
    assert not any(module.training for module in frozen)
    assert all(layer.training for layer in model.image_encoder.encoder.layers[2:])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    inputs, labels = batch(model), torch.tensor([[0, 1, 0], [3, 2, -1]])
    losses = []
    for _ in range(15):
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == set(model.trainable_state())


def test_frozen_layers_leave_no_graph() -> None:
    model = build_mids(TINY).train()
    pixels = batch(model)["pixel_values"]
    assert all(state.requires_grad for state in model.vision_states(pixels))
    frozen = build_mids(replace(TINY, unfreeze_last=0)).train()
    assert not any(state.requires_grad for state in frozen.vision_states(pixels))
    assert not any(name.startswith("image_encoder") for name in frozen.trainable_state())


def test_ignored_labels_do_not_count_in_the_loss() -> None:
    model = build_mids(TINY)
    inputs = batch(model)
    with torch.no_grad():
        output = model(**inputs, labels=torch.tensor([[0, -1, -1], [-1, 3, -1]]))
        expected = -output.logits.log_softmax(-1)[[0, 1], [0, 1], [0, 3]].mean()
        assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert model(**inputs, labels=torch.full((2, 3), -1)).loss.item() == 0
        assert model(**inputs).loss is None


def test_only_new_modules_are_initialised_unless_asked() -> None:
    kept, again, redone = (
        build_mids(TINY, seed=1),
        build_mids(TINY, seed=2),
        build_mids(replace(TINY, reinit_unfrozen=True)),
    )
    layers = [model.image_encoder.state_dict() for model in (kept, again, redone)]
    name = "encoder.layers.3.mlp.fc1.weight"
    assert torch.equal(layers[0][name], layers[1][name]) and not torch.equal(layers[0][name], layers[2][name])
    frozen = "encoder.layers.1.mlp.fc1.weight"
    assert torch.equal(layers[0][frozen], layers[2][frozen])
    assert not torch.equal(kept.classifier.weight, again.classifier.weight)
    queries = [dict(model.named_parameters())["streams.0.text_query"] for model in (kept, again)]
    assert not torch.equal(*queries)
    assert all(not m.bias.any() for new in kept.new_modules() for m in new.modules() if isinstance(m, nn.Linear))


def test_an_all_padding_answer_gives_finite_logits() -> None:
    model = build_mids(TINY)
    inputs = batch(model)
    inputs["attention_mask"][0, 1] = 0
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


def test_saved_and_loaded_model_gives_the_same_logits(tmp_path: Path) -> None:
    model = build_mids(TINY, seed=3)
    inputs = batch(model)
    save_mids(model, tmp_path / "mids")
    loaded = load_mids(tmp_path / "mids")
    assert loaded.settings == model.settings and not loaded.training
    assert load_file(tmp_path / "mids" / "model.safetensors").keys() == model.trainable_state().keys()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
        save_mids(model, tmp_path / "half", torch.bfloat16)
        half = load_mids(tmp_path / "half")
        assert half.classifier.weight.dtype is torch.float32
        torch.testing.assert_close(half(**inputs).logits, model(**inputs).logits, atol=0.1, rtol=0.05)
        low = load_mids(tmp_path / "half", dtype=torch.bfloat16)
        inputs["pixel_values"] = inputs["pixel_values"].bfloat16()
        assert low(**inputs).logits.dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("classifier.bias"), r"does not fit the model: 1 missing \(classifier\.bias\)$"),
        (lambda state: state.update(extra=torch.ones(1)), r"does not fit the model: 1 unexpected \(extra\)$"),
        (
            lambda state: state.update({"classifier.bias": torch.ones(5)}),
            r"does not fit the model: 1 misshapen \(classifier\.bias is \(5,\), wanted \(4,\)\)$",
        ),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path, change, message: str) -> None:
    save_mids(build_mids(TINY), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message):
        load_mids(tmp_path)


def test_broken_checkpoint_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*config\.json"):
        load_mids(tmp_path)
    save_mids(build_mids(TINY), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cannot read .*model\.safetensors"):
        load_mids(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for wrong, message in (
        ({"mask_answer": True}, "unknown option 'mask_answer', did you mean mask_answers"),
        ({"heads": "x"}, "heads"),
        ({"hidden_dim": 0}, "hidden_dim 0"),
        ({"vision_layers": []}, "vision_layers names no layer"),
        ({"image_size": 0}, "image_size"),
        ({"max_text_tokens": 0}, "max_text_tokens"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **wrong}))
        with pytest.raises(InputError, match=rf"cannot read .*config\.json.*{message}"):
            load_mids(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 64}, "text encoder's width 32"),
        ({"max_text_tokens": 500}, "128 positions"),
        ({"vision_layers": (-1, 9)}, "4 layers"),
        ({"heads": 5}, "multiple of heads"),
        ({"channel_order": "hsv"}, "rgb or bgr"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_mids(replace(TINY, **changes))


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (50, 50), (33, 32), (500, 100)])
def test_pictures_are_prepared_as_clip_prepares_them(width: int, height: int) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = pictures(1, width, height)[0]
    reference = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = torch.as_tensor(np.asarray(reference(image, return_tensors="np")["pixel_values"]))[0]
    model = build_mids(TINY)
    found = MidsProcessor(TINY, model.tokenizer).image(image)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    swapped = MidsProcessor(replace(TINY, channel_order="bgr"), model.tokenizer).image(image)
    red, green, blue = image.split()
    as_bgr = MidsProcessor(TINY, model.tokenizer).image(Image.merge("RGB", (blue, green, red)))
    assert torch.equal(swapped, as_bgr)
    assert resize_and_crop(width, height, 32)[:2] == (
        32 * width // min(width, height),
        32 * height // min(width, height),
    )


def test_masked_answers_hide_the_verdict() -> None:
    model = build_mids(replace(TINY, mask_answers=True))
    processor = MidsProcessor(model.settings, model.tokenizer)
    texts = [
        f"Image description: a face\nForgery reasoning: {{}}\nAnalysis result: {verdict}\nProbability: 0.9"
        for verdict in ("real", "fake")
    ]
    ids, mask = processor.texts([[text.format("smooth") for text in texts]])
    assert torch.equal(ids[0, 0], ids[0, 1])
    ids, mask = processor.texts([[texts[0].format("x" * 500), texts[1].format("y")]])
    assert ids.shape == mask.shape == (1, 2, 96)
    with pytest.raises(InputError, match="same number of answers"):
        processor.texts([["a"], ["b", "c"]])


def test_frozen_parts_may_be_held_in_bf16_for_training_under_autocast() -> None:
    model = build_mids(TINY)
    inputs, labels = batch(model), torch.tensor([[0, 1, 0], [3, 2, -1]])
    with torch.no_grad():
        expected = model(**inputs).logits
        model.cast_frozen(torch.bfloat16)
        torch.testing.assert_close(model(**inputs).logits, expected, atol=0.1, rtol=0.05)
    assert {parameter.dtype for parameter in model.trainable_state().values()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train()(**inputs, labels=labels).loss
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("size", [(1, 300_000), (300_000, 2)])
def test_a_picture_as_thin_as_a_thread_does_not_fill_the_memory(size: tuple[int, int]) -> None:
    """Resized whole, its shorter side at 32 pixels, it would take a gigabyte."""
    config = replace(TINY, image_size=32)
    with patch.object(Image.Image, "resize", autospec=True, side_effect=Image.Image.resize) as resize:
        pixels = MidsProcessor(config, None).image(Image.new("RGB", size, (200, 0, 0)))
    assert pixels.shape == (3, 32, 32) and pixels.std((1, 2)).max() < 1e-6
    assert max(resize.call_args.args[1]) <= 16 * 32
