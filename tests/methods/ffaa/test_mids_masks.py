from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ffaa.methods.ffaa.mids import MidsConfig, MidsProcessor, build_mids
from ffaa.methods.ffaa.mids_data import MidsCollator, MidsDataset
from ffaa.methods.ffaa.mids_masks import UNKNOWN, MaskTaughtMids
from ffaa.types import Record

PATCHES = 2
TINY = MidsConfig(
    vision={
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
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
    image_size=32,
    max_text_tokens=32,
)


def record(name: str, label: str, *masks: str) -> Record:
    answers = tuple({"content": "Analysis result: real", "result": "real"} for _ in range(3))
    return Record(id=name, image="picture.png", label=label, answers=answers, masks=masks)


@pytest.fixture
def batch(tmp_path: Path) -> dict[str, torch.Tensor]:
    """A real picture, one whose upper left quarter was edited, and a forged one without a mask."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        tmp_path / "picture.png"
    )
    mask = np.zeros((64, 64), np.uint8)
    mask[:32, :32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    records = [record("a", "real"), record("b", "fake", "mask.png"), record("c", "fake")]
    processor = MidsProcessor(TINY, build_mids(TINY).tokenizer)
    dataset = MidsDataset(records, tmp_path, processor, augment=True, patches=PATCHES)
    collated: dict[str, torch.Tensor] = MidsCollator(processor)([dataset[index] for index in range(3)])
    return collated


def test_masks_are_the_edited_share_of_each_patch(batch: dict[str, torch.Tensor]) -> None:
    assert batch["masks"].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [UNKNOWN] * 4]


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 96), (64, 64), (61, 97)])
def test_a_mask_is_cut_as_its_picture_is(width: int, height: int) -> None:
    """A picture that is white where it was edited: the patches that show white are those of the mask."""
    processor = MidsProcessor(TINY, build_mids(TINY).tokenizer)
    mask = np.zeros((height, width), np.float32)
    mask[: height // 2, width // 2 :] = 1
    shown = processor.image(Image.fromarray(np.uint8(mask * 255)).convert("RGB"))[0]
    white = shown.unflatten(0, (2, 16)).unflatten(2, (2, 16)).mean((1, 3))
    brightness = (white - shown.min()) / (shown.max() - shown.min())
    torch.testing.assert_close(processor.mask(mask, PATCHES), brightness.flatten(), atol=0.03, rtol=0)


def test_the_loss_is_that_of_mids_and_the_mask_heads_beside_it(batch: dict[str, torch.Tensor]) -> None:
    mids = build_mids(TINY)
    plain = mids(**{name: value for name, value in batch.items() if name != "masks"})
    taught = MaskTaughtMids(mids, 0.5, seed=0)
    for head in taught.mask_heads:  # a logit of 0 everywhere costs log 2, whatever the mask
        for parameter in head.parameters():
            torch.nn.init.zeros_(parameter)
    output = taught(**batch)
    assert torch.equal(output.logits, plain.logits)
    assert float(output.loss - plain.loss) == pytest.approx(0.5 * np.log(2), abs=1e-6)
    unknown = {**batch, "masks": torch.full_like(batch["masks"], UNKNOWN)}
    assert torch.equal(taught(**unknown).loss, plain.loss)


def test_what_is_projected_learns_where_the_edit_is(batch: dict[str, torch.Tensor]) -> None:
    taught = MaskTaughtMids(build_mids(TINY), 1.0, seed=0).train()
    optimizer = torch.optim.Adam([p for p in taught.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = taught(**{**batch, "labels": torch.full_like(batch["labels"], -1)}).loss  # the masks alone
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.3 * losses[0]
    assert all(stream.projector.weight.grad.abs().sum() > 0 for stream in taught.mids.streams)
