"""The published selector gives, once converted, the logits of its formulas with the padding it was trained with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionModel

from ffaa.methods.ffaa.convert import as_published, convert_mids, published_mids
from ffaa.methods.ffaa.judging import answer_logits
from ffaa.methods.ffaa.mids import Mids, MidsConfig, MidsProcessor, build_mids, load_mids
from ffaa.types import Answer, Hypothesis, InputError, Verdict
from tests.backbones.published_llava import tower_states

HEADS, WIDTH, VISION = 8, 32, 48
CONFIG = MidsConfig(
    vision={
        "hidden_size": VISION, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
        "image_size": 32, "patch_size": 8,
    },
    text={
        "model_type": "t5", "vocab_size": 300, "d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    },
    hidden_dim=WIDTH,
    heads=HEADS,
    image_size=32,
    max_text_tokens=128,
)  # fmt: skip
ANSWERS = [
    ["a smooth skin", "a seam runs around the jaw and down the neck", "light"],
    ["blurred eyes, and the left one looks elsewhere", "sharp", "nothing at all to see here"],
]


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> MidsConfig:
    """The configuration with its image tower in a folder, as the stock CLIP lies in one."""
    folder = tmp_path_factory.mktemp("clip")
    build_mids(CONFIG).image_encoder.save_pretrained(folder)
    return replace(as_published(CONFIG), vision=str(folder))


def published(seed: int = 0, first_layer: int = 2) -> dict[str, Tensor]:
    """``mids.pth``: what the published training saves, random, by its names."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    found = {"classifier.weight": random(4, 6 * WIDTH), "classifier.bias": random(4)}
    for layer in "12":
        found |= {
            f"projector_layer{layer}.weight": random(WIDTH, VISION),
            f"projector_layer{layer}.bias": random(WIDTH),
        }
        found |= {f"cls_token_layer{layer}.weight": random(WIDTH, WIDTH), f"cls_token_layer{layer}.bias": random(WIDTH)}
        found |= {f"fusion_block.lr_{kind}{layer}": random(1, WIDTH) for kind in ("tii", "itt")}
    blocks = [f"fusion_block.cr_{kind}{layer}{end}" for kind in ("tii", "itt") for layer in "12" for end in ("", "_lr")]
    for block in [*blocks, *(f"se_attn.{index}" for index in range(3))]:
        found |= {
            f"{block}.cross_attn.in_proj_weight": random(3 * WIDTH, WIDTH),
            f"{block}.cross_attn.in_proj_bias": random(3 * WIDTH),
            f"{block}.cross_attn.out_proj.weight": random(WIDTH, WIDTH),
            f"{block}.cross_attn.out_proj.bias": random(WIDTH),
            f"{block}.norm.weight": 1 + random(WIDTH),
            f"{block}.norm.bias": random(WIDTH),
        }
    for index in range(first_layer, 4):
        inner = f"image_encoder.vision_model.encoder.layers.{index}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= {f"{inner}self_attn.{name}.weight": random(VISION, VISION) / 3}
            found |= {f"{inner}self_attn.{name}.bias": random(VISION)}
        for name, (rows, columns) in {"fc1": (64, VISION), "fc2": (VISION, 64)}.items():
            found |= {f"{inner}mlp.{name}.weight": random(rows, columns) / 3, f"{inner}mlp.{name}.bias": random(rows)}
        for name in ("layer_norm1", "layer_norm2"):
            found |= {f"{inner}{name}.weight": 1 + random(VISION), f"{inner}{name}.bias": random(VISION)}
    return {f"module.{name}": tensor for name, tensor in found.items()}


def expected_logits(w: Mapping[str, Tensor], tower: CLIPVisionModel, model: Mids, pixels: Tensor, texts: Any) -> Tensor:
    """(3, 4) from the formulas: one picture, its own three answers padded together, no mask in the fusion."""
    whole = {f"x.{name}": tensor for name, tensor in tower.state_dict().items()}
    whole |= {
        name.replace("module.image_encoder.vision_model.", "x."): tensor
        for name, tensor in w.items()
        if "image_encoder" in name
    }
    states = tower_states(whole, "x.", pixels, 4)
    text = model.text_encoder(**texts).last_hidden_state

    def attend(name: str, query: Tensor, context: Tensor) -> Tensor:
        inner, bias = (w[f"module.{name}.cross_attn.in_proj_{kind}"] for kind in ("weight", "bias"))
        q, k, v = (
            F.linear(x, inner[at : at + WIDTH], bias[at : at + WIDTH]).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for at, x in ((0, query), (WIDTH, context), (2 * WIDTH, context))
        )
        mixed = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS), dim=-1) @ v
        return linear(f"{name}.cross_attn.out_proj", mixed.transpose(1, 2).flatten(2))

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, w[f"module.{name}.weight"], w[f"module.{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), w[f"module.{name}.norm.weight"], w[f"module.{name}.norm.bias"])

    tokens = []
    for layer, state in (("1", states[-1]), ("2", states[-2])):
        image = linear(f"projector_layer{layer}", state).expand(3, -1, -1)
        tokens.append(linear(f"cls_token_layer{layer}", image[:, :1]))
        for kind, query, context in (("tii", text, image), ("itt", image, text)):
            block = f"fusion_block.cr_{kind}{layer}"
            read = norm(block, attend(block, query, context))
            learned = w[f"module.fusion_block.lr_{kind}{layer}"].expand(3, 1, -1)
            tokens.append(norm(f"{block}_lr", attend(f"{block}_lr", learned, read)))
    fused = torch.cat(tokens, dim=1)
    for index in range(3):
        fused = norm(f"se_attn.{index}", fused + attend(f"se_attn.{index}", fused, fused))
    return linear("classifier", fused.flatten(1))


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)) for _ in ANSWERS]


def converted(tensors: dict[str, Tensor], config: MidsConfig, folder: Path) -> Path:
    torch.save(tensors, folder / "mids.pth")
    convert_mids(folder / "mids.pth", folder / "mids", config)
    return folder / "mids"


def test_logits_are_those_of_the_formulas(towers: MidsConfig, tmp_path: Path) -> None:
    tensors = published()
    model = load_mids(converted(tensors, towers, tmp_path))
    tower = CLIPVisionModel.from_pretrained(str(towers.vision))
    processor = MidsProcessor(replace(model.settings, mask_answers=False), model.tokenizer)
    found, expected = [], []
    for image, answers in zip(pictures(), ANSWERS, strict=True):
        inputs = processor([image], [answers])
        texts = {"input_ids": inputs["input_ids"][0], "attention_mask": inputs["attention_mask"][0]}
        assert not texts["attention_mask"].all()  # there is padding, which counts
        with torch.no_grad():
            expected.append(expected_logits(tensors, tower, model, inputs["pixel_values"], texts))
            found.append(model(**inputs).logits[0])
    assert (torch.stack(found) - torch.stack(expected)).abs().max() < 1e-4
    assert torch.stack(expected).std() > 0.1


def test_a_picture_s_padding_is_its_own_whatever_it_is_scored_with(towers: MidsConfig, tmp_path: Path) -> None:
    model = load_mids(converted(published(), replace(towers, mask_answers=False), tmp_path))
    processor = MidsProcessor(model.settings, model.tokenizer)
    rows = [
        [Answer(text=text, verdict=Verdict.REAL, question="", hypothesis=Hypothesis.NONE) for text in row]
        for row in ANSWERS
    ]
    images = pictures()
    together = answer_logits(model, processor, images, rows)
    apart = [answer_logits(model, processor, [image], [row])[0] for image, row in zip(images, rows, strict=True)]
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_every_tensor_is_accounted_for_and_options_are_recorded(towers: MidsConfig, tmp_path: Path) -> None:
    tensors = {**published(), "module.image_encoder.vision_model.embeddings.position_ids": torch.arange(17)}
    torch.save(tensors, tmp_path / "mids.pth")
    config, account = convert_mids(tmp_path / "mids.pth", tmp_path / "mids", towers)
    assert account.used.keys() | account.dropped.keys() == tensors.keys() and len(account.dropped) == 1
    stored = json.loads((tmp_path / "mids/config.json").read_text())
    assert (stored["padding_mask"], stored["mask_answers"], stored["channel_order"]) == (False, True, "rgb")
    assert stored["reinit_unfrozen"] and stored["unfreeze_last"] == 2
    model = load_mids(tmp_path / "mids")
    assert model.settings == config
    # what is neither in the file nor new comes from the tower: the first two layers
    tower = CLIPVisionModel.from_pretrained(str(towers.vision))
    assert torch.equal(model.image_encoder.encoder.layers[1].mlp.fc1.weight, tower.encoder.layers[1].mlp.fc1.weight)
    name = "module.image_encoder.vision_model.encoder.layers.3.mlp.fc1.weight"
    assert torch.equal(model.image_encoder.encoder.layers[3].mlp.fc1.weight, tensors[name])


def test_a_selector_whose_tower_stayed_frozen(towers: MidsConfig, tmp_path: Path) -> None:
    tensors = {name.removeprefix("module."): t for name, t in published(first_layer=4).items()}
    assert load_mids(converted(tensors, towers, tmp_path)).settings.unfreeze_last == 0


def test_the_published_size_is_counted() -> None:
    whole = MidsConfig(
        vision={"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
                "image_size": 336, "patch_size": 14},
        text={"model_type": "t5", "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12,
              "num_heads": 12},
    )  # fmt: skip
    wanted = build_mids(whole, device="meta").trainable_state()
    # Ours back to the published names, and from there through the map again.
    from tests.methods.ffaa.published_names import to_published

    found, account = published_mids(to_published(wanted), Path("mids.pth"))
    assert {name: tensor.shape for name, tensor in found.items()} == {name: t.shape for name, t in wanted.items()}
    assert sum(tensor.numel() for tensor in found.values()) == 53_972_484
    assert len(account.used) == 2 * 4 + 4 + 11 * 6 + 2 + 2 * 16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"module.classifier.weight": torch.zeros(4, 12)}, r"classifier.weight is \(4, 12\), wanted \(4, 192\)"),
        ({"module.fusion_block.lr_tii1": torch.full((1, WIDTH), math.nan)}, "lr_tii1 holds NaN or infinity"),
        ({"module.se_attn.0.cross_attn.in_proj_weight": torch.zeros(7, 2)}, "is no query, key and value"),
        ({"module.streams.0.projector.weight": torch.zeros(2)}, "looks like a selector of this project"),
        ({"model.mm_projector.0.weight": torch.zeros(2)}, "looks like a LLaVA's projector or language model"),
        ({"x.lora_A.weight": torch.zeros(2)}, "looks like LoRA adapters"),
        ({"module.image_encoder.vision_model.encoder.layers.1.layer_norm1.bias": torch.zeros(VISION)}, "missing"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Tensor], said: str, towers: MidsConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        converted({**published(), **change}, towers, tmp_path)


def test_a_pickle_with_code_in_it_is_refused(towers: MidsConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="loading it could run code"):
        converted({**published(), "x": Path("y")}, towers, tmp_path)  # type: ignore[dict-item]
    (tmp_path / "mids.pth").write_bytes((tmp_path / "mids.pth").read_bytes()[:-999])
    with pytest.raises(InputError, match="cut short or damaged"):
        convert_mids(tmp_path / "mids.pth", tmp_path / "mids", towers)
