from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ffaa.methods.ffaa.mids import MidsConfig, MidsProcessor, build_mids
from ffaa.methods.ffaa.mids_data import MidsCollator, MidsDataset, answer_label, record_labels
from ffaa.types import InputError, Record

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
    max_text_tokens=128,
)


def answer(result: str, reasoning: str = "none", **more: Any) -> Mapping[str, Any]:
    text = f"Image description: a face\nForgery reasoning: {reasoning}\nAnalysis result: {result}"
    return {"content": text, "result": result, **more}


def record(index: int, label: str, *results: str) -> Record:
    answers = [answer(result, "seam " * position) for position, result in enumerate(results)]
    return Record(id=f"r{index}", image=f"imgs/{index}.png", label=label, answers=answers)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "imgs").mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "imgs" / f"{index}.png")
    return tmp_path


@pytest.fixture(scope="module")
def processor() -> MidsProcessor:
    return MidsProcessor(TINY, build_mids(TINY).tokenizer)


RECORDS = [record(0, "real", "real", "fake", "real"), record(1, "fake", "fake", "real", "unparsed")]


@pytest.mark.parametrize(
    ("picture", "result", "label"),
    [("real", "real", 0), ("real", "fake", 1), ("fake", "real", 2), ("fake", "fake", 3), ("fake", "unparsed", -1)],
)
def test_label_table(picture: str, result: str, label: int) -> None:
    assert answer_label(picture, result) == label


def test_batches_fit_the_model(root: Path, processor: MidsProcessor) -> None:
    dataset = MidsDataset(RECORDS, root, processor)
    batch = MidsCollator(processor)([dataset[0], dataset[1]])
    assert batch["labels"].tolist() == [[0, 1, 0], [3, 2, -1]]
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert torch.equal(batch["pixel_values"][0], processor.image(Image.open(root / "imgs/0.png")))
    assert build_mids(TINY)(**batch).loss.isfinite()
    # the answers of both pictures differ in their verdicts only, which are masked
    assert torch.equal(batch["input_ids"][0], batch["input_ids"][1])


def test_augmentation_depends_on_seed_epoch_and_index_only(root: Path, processor: MidsProcessor) -> None:
    records = [replace(RECORDS[0], image="imgs/0.png") for _ in range(8)]

    def pixels(seed: int, epoch: int, order: list[int]) -> dict[int, torch.Tensor]:
        dataset = MidsDataset(records, root, processor, augment=True, seed=seed)
        dataset.set_epoch(epoch)
        return {index: dataset[index]["pixel_values"] for index in order}

    base = pixels(0, 0, list(range(8)))
    again = pixels(0, 0, list(reversed(range(8))))
    assert all(torch.equal(base[index], again[index]) for index in range(8))
    for other in (pixels(1, 0, list(range(8))), pixels(0, 1, list(range(8)))):
        assert any(not torch.equal(base[index], other[index]) for index in range(8))
    assert any(not torch.equal(base[0], base[index]) for index in range(1, 8))


def test_bad_records_are_named(root: Path, processor: MidsProcessor) -> None:
    with pytest.raises(InputError, match="'r0' has 2 answers, MIDS is trained on 3"):
        MidsDataset([record(0, "real", "real", "fake")], root, processor)
    wrong = replace(RECORDS[0], answers=[answer("real", label=3)] * 3)
    with pytest.raises(InputError, match="'r0', answer 0: label 3 for a real picture"):
        record_labels(wrong, 3)
    with pytest.raises(InputError, match="'r0', answer 0: needs 'content' and 'result'"):
        record_labels(replace(RECORDS[0], answers=[{"content": "x"}] * 3), 3)
    with pytest.raises(InputError, match="real or fake, not 'real '"):
        record_labels(replace(RECORDS[0], label="real "), 3)
    with pytest.raises(InputError, match="leaves the folder"):
        MidsDataset([replace(RECORDS[0], image="../0.png")], root, processor)
    with pytest.raises(InputError, match="no records"):
        MidsDataset([], root, processor)
    assert record_labels(replace(RECORDS[0], answers=[answer("fake", label=1)] * 3), 3) == [1, 1, 1]


def test_missing_pictures_are_an_input_error(root: Path, processor: MidsProcessor) -> None:
    dataset = MidsDataset([replace(RECORDS[0], image="imgs/9.png")], root, processor)
    with pytest.raises(InputError, match="no such file"):
        dataset[0]
