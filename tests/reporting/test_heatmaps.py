from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

from ffaa.methods.ffaa.explain import MidsExplanation, explain_decision, shown_part
from ffaa.methods.ffaa.judging import answer_logits
from ffaa.methods.ffaa.mids import Mids, MidsConfig, MidsProcessor, build_mids
from ffaa.reporting.heatmaps import PatchGradCAM, first_component, heat_maps, overlay, patch_grid, place, save_heatmaps
from ffaa.types import Answer, Box, InputError, Verdict

TINY = MidsConfig(
    vision={
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    },
    text={
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 262,
        "max_position_embeddings": 128,
    },
    hidden_dim=16,
    heads=2,
    image_size=64,
    max_text_tokens=128,
)
ANSWER = "Image description: a face\nForgery reasoning: a seam\nAnalysis result: fake"


@pytest.fixture(scope="module")
def model() -> Mids:
    return build_mids(TINY, seed=4)


def picture(width: int = 90, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def explain(model: Mids, image: Image.Image, verdict: Verdict, target: str = "match") -> MidsExplanation:
    return explain_decision(model, MidsProcessor(model.settings, model.tokenizer), image, [ANSWER], verdict, target)


@pytest.mark.parametrize("eigen_smooth", [False, True])
@pytest.mark.parametrize(("width", "height"), [(90, 60), (60, 90), (64, 64)])
def test_maps_lie_on_the_pictures_own_pixels(model: Mids, width: int, height: int, eigen_smooth: bool) -> None:
    image = picture(width, height)
    maps = heat_maps(explain(model, image, Verdict.FAKE), image.size, eigen_smooth)
    assert list(maps) == ["layer3", "layer2"]
    for heat in maps.values():
        assert heat.shape == (height, width) and heat.dtype == np.float32
        assert heat.min() >= 0 and 0.9 < heat.max() <= 1
        edge = 15  # the centre crop leaves out 15 pixels at either end of the longer side
        if width > height:
            assert not heat[:, :edge].any() and not heat[:, -edge:].any()
        if height > width:
            assert not heat[:edge].any() and not heat[-edge:].any()


@pytest.mark.parametrize("padding_mask", [True, False])
def test_the_explained_logits_are_those_that_decided(padding_mask: bool) -> None:
    """Where padding is attended to, the other answers have a say through their length."""
    model = build_mids(replace(TINY, padding_mask=padding_mask), seed=4)
    processor, image, texts = MidsProcessor(model.settings, model.tokenizer), picture(), [ANSWER, ANSWER * 2, "no"]
    answers = [Answer(text, Verdict.FAKE) for text in texts]
    decided = torch.tensor(answer_logits(model, processor, [image], [answers])[0])
    for chosen, logits in enumerate(decided):
        explained = explain_decision(model, processor, image, texts, Verdict.FAKE, chosen=chosen)
        found = explained.module(explained.pixel_values)[0]
        torch.testing.assert_close(found.detach(), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("verdict", "target", "weights"),
    [
        (Verdict.REAL, "match", [1.0, 0.0, -1.0, 0.0]),
        (Verdict.FAKE, "match", [0.0, -1.0, 0.0, 1.0]),
        (Verdict.REAL, "class", [1.0, 0.0, 0.0, 0.0]),
        (Verdict.FAKE, "class", [0.0, 0.0, 0.0, 1.0]),
    ],
)
def test_plain_maps_are_grad_cam_of_the_deciding_logit(
    model: Mids, verdict: Verdict, target: str, weights: list[float]
) -> None:
    image = picture(64, 64)
    explanation = explain(model, image, verdict, target)
    inputs = MidsProcessor(TINY, model.tokenizer)([image], [[ANSWER]])
    projected: list[torch.Tensor] = []

    def keep(_module, _inputs, output):
        output.retain_grad()
        projected.append(output)

    handles = [stream.projector.register_forward_hook(keep) for stream in model.streams]
    logits = model(**inputs).logits[0, 0]
    assert explanation.target(logits.detach()).item() == pytest.approx(
        (logits.detach() @ torch.tensor(weights)).item(), abs=1e-5
    )
    (logits @ torch.tensor(weights)).backward()
    for handle in handles:
        handle.remove()
    maps = heat_maps(explanation, image.size, eigen_smooth=False)
    for heat, states in zip(maps.values(), projected, strict=True):
        gradients, activations = patch_grid(cast(torch.Tensor, states.grad))[0], patch_grid(states.detach())[0]
        expected = torch.relu((gradients.mean(dim=(1, 2))[:, None, None] * activations).sum(0)).numpy()
        expected = (expected - expected.min()) / (expected.max() - expected.min())
        assert np.corrcoef(heat[8::16, 8::16].ravel(), expected.ravel())[0, 1] > 0.95
        assert heat.argmax() // 64 // 16 * 4 + heat.argmax() % 64 // 16 == expected.argmax()
    model.zero_grad()


def test_model_is_left_as_it_was(model: Mids) -> None:
    model.train()
    model.classifier.weight.grad = torch.ones_like(model.classifier.weight)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        heat_maps(explain(model, picture(), Verdict.REAL), (90, 60))
    assert model.training and not model.text_encoder.training
    assert torch.equal(model.classifier.weight.grad, torch.ones_like(model.classifier.weight))
    assert model.streams[0].projector.weight.grad is None
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(stream.projector._forward_hooks for stream in model.streams)
    model.eval()
    model.zero_grad()


def test_frozen_and_bf16_models_have_maps_too() -> None:
    model = build_mids(TINY, dtype=torch.bfloat16, seed=4).requires_grad_(False)
    heat = heat_maps(explain(model, picture(), Verdict.FAKE), (90, 60))["layer3"]
    assert heat.dtype == np.float32 and heat.max() > 0.9


def test_constant_maps_are_empty() -> None:
    model = build_mids(TINY)
    torch.nn.init.zeros_(model.classifier.weight)
    for eigen_smooth in (False, True):
        for heat in heat_maps(explain(model, picture(), Verdict.FAKE), (90, 60), eigen_smooth).values():
            assert not heat.any()
    assert not np.isnan(np.asarray(overlay(picture(), heat))).any()


def test_unparsed_answers_explain_the_odds_of_fake(model: Mids) -> None:
    explanation = explain(model, picture(), Verdict.UNPARSED)
    row = torch.tensor([0.3, -0.2, 0.9, 0.4])
    p = row.softmax(0)
    assert explanation.target(row).item() == pytest.approx(torch.log((p[2] + p[3]) / (p[0] + p[1])).item(), abs=1e-6)
    with pytest.raises(InputError, match="no class logit"):
        explain(model, picture(), Verdict.UNPARSED, "class")
    with pytest.raises(InputError, match="one of match, class"):
        explain(model, picture(), Verdict.REAL, "softmax")


def test_shown_part_undoes_resize_and_crop() -> None:
    assert shown_part(90, 60, 64) == Box(15.0, 0.0, 75.0, 60.0)
    assert shown_part(60, 90, 64) == Box(0.0, 15.0, 60.0, 75.0)
    assert shown_part(64, 64, 64) == Box(0.0, 0.0, 64.0, 64.0)


def test_place_puts_a_spot_where_it_belongs() -> None:
    square = np.zeros((64, 64), np.float32)
    square[16:32, 32:48] = 1
    placed = place(square, Box(100, 50, 228, 178), (300, 200))
    rows, columns = np.nonzero(placed > 0.5)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (82, 114, 164, 196)
    assert np.array_equal(place(square, Box(0, 0, 64, 64), (64, 64)), square)
    assert place(np.ones((8, 8), np.float32), Box(10, 10, 20, 20), (40, 30)).sum() == 100


def test_overlay_and_files(model: Mids, tmp_path: Path) -> None:
    image = picture()
    paths = save_heatmaps(image, explain(model, image, Verdict.FAKE), tmp_path / "heat", "face")
    assert [path.name for path in paths] == ["face_heat1.png", "face_heat2.png"]
    assert all(Image.open(path).size == image.size for path in paths)
    heat = np.zeros((60, 90), np.float32)
    heat[:30] = 1
    grey = Image.new("RGB", (90, 60), (128, 128, 128))
    top, bottom = (np.asarray(overlay(grey, heat))[row, 0].astype(int) for row in (0, 59))
    assert top[0] > top[2] and bottom[2] > bottom[0]
    with pytest.raises(InputError, match="90 x 60"):
        overlay(image, heat.T)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(5))
def test_eigen_smoothing_keeps_the_sign_of_the_plain_map(seed: int, sign: int) -> None:
    layer = torch.nn.Identity()
    cam = PatchGradCAM(torch.nn.Sequential(torch.nn.Conv2d(3, 6, 1), layer), [layer])
    rng = np.random.default_rng(seed)
    spot = np.zeros((8, 8), np.float32)
    spot[2:4, 5:7] = sign
    noisy = spot * rng.uniform(0.5, 1, (1, 6, 1, 1)) + rng.normal(0, 0.05, (1, 6, 8, 8))
    activations = noisy.astype(np.float32)
    smooth = cam.get_cam_image(torch.zeros(1, 3, 8, 8), layer, [], activations, np.ones_like(activations), True)[0]
    assert np.sign(smooth[2:4, 5:7]).tolist() == [[sign, sign], [sign, sign]]


def test_first_component_is_the_librarys_up_to_sign() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 20, 4, 4)).astype(np.float32)
    expected, found = get_2d_projection(maps), first_component(maps)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(np.abs(other), np.abs(one), atol=1e-4)
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) == pytest.approx(1, abs=1e-6)
    assert not first_component(np.ones((1, 3, 4, 4))).any()
