"""Both stages with the outputs of frozen towers kept: the losses are those of computing them at every step."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import BertModel
from transformers.models.clip.modeling_clip import CLIPVisionEmbeddings

import ffaa.methods.ffaa.mids_cache as mids_cache
import ffaa.methods.ffaa.mllm_stage as mllm_stage
from ffaa.methods import find_stage
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.training.length_groups import LengthGroups
from ffaa.training.trainer import StageTrainer, train, training_arguments
from ffaa.types import InputError

GROUPS = {
    "mllm": [ParameterGroup("lora_", 1e-2), ParameterGroup(r"multi_modal_projector\.modules_to_save", 1e-3)],
    "mids": [ParameterGroup(".*", 1e-3)],
}


@pytest.fixture
def unlike(data: Path) -> Path:
    """The eight pictures, each with noise of its own."""
    rng = np.random.default_rng(0)
    for path in (data / "imgs").iterdir():
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return data


def config_of(stage: str, data: Path, output: Path, **changes: Any) -> StageConfig:
    config = StageConfig(model="tiny", stage=stage, data=data, output=output, groups=GROUPS[stage], epochs=2)
    fixed = {"dtype": "float32", "device": "cpu", "log_steps": 1, "batch_size": 4, "validation": data}
    unwatched = {"sample_steps": 0, "validation_steps": 0}  # which look at pictures of their own
    return replace(config, **{**fixed, **unwatched, **changes})


def losses(config: StageConfig) -> list[float]:
    output = train(find_stage("ffaa", config.stage), config)
    log = json.loads((output / "manifest.json").read_text())["log"]
    return [entry[key] for entry in log for key in ("loss", "eval_loss") if key in entry]


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How often towers ran and pictures were opened."""
    counts = {"vision": 0, "text": 0, "opened": 0}

    def count(owner: Any, name: str, what: str) -> None:
        inner = getattr(owner, name)

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            counts[what] += 1
            return inner(*arguments, **keywords)

        context.setattr(owner, name, wrapped)

    with monkeypatch.context() as context:
        count(CLIPVisionEmbeddings, "forward", "vision")
        count(BertModel, "forward", "text")
        count(mllm_stage, "open_image", "opened")
        count(mids_cache, "open_image", "opened")
        yield counts


@pytest.mark.parametrize("batch", [2, 4])
@pytest.mark.parametrize(
    ("stage", "options", "unseen"),
    [
        ("mllm", {"mixstyle": 1.0}, {"vision", "text", "opened"}),
        ("mids", {"augment": False}, {"vision", "text", "opened"}),
        ("mids", {"augment": False, "mask_weight": 0.5}, {"vision", "text", "opened"}),
        ("mids", {}, {"text"}),
    ],
)
def test_kept_features_give_the_losses_of_computed_ones(
    stage: str,
    options: dict[str, Any],
    unseen: set[str],
    batch: int,
    unlike: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dropout and mixed statistics included. Once all is kept, nothing frozen runs and no picture is opened."""
    settings = {"options": options, "batch_size": batch, "max_steps": 4}
    plain = losses(config_of(stage, unlike, tmp_path / "plain", **settings))
    cached = {**settings, "feature_cache": tmp_path / "cache"}
    assert losses(config_of(stage, unlike, tmp_path / "cold", **cached)) == pytest.approx(plain, abs=1e-6)
    with counted(monkeypatch) as counts:
        assert losses(config_of(stage, unlike, tmp_path / "warm", **cached)) == pytest.approx(plain, abs=1e-6)
    assert {what for what, times in counts.items() if not times} >= unseen
    with counted(monkeypatch) as counts:
        losses(config_of(stage, unlike, tmp_path / "again", **settings))
    assert counts["vision"] and (stage == "mllm" or counts["text"])


@pytest.mark.parametrize("stage", ["mllm", "mids"])
def test_a_full_or_torn_cache_changes_no_loss(
    stage: str, unlike: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"options": {"augment": False} if stage == "mids" else {}}
    plain = losses(config_of(stage, unlike, tmp_path / "plain", **settings))
    cached = {**settings, "feature_cache": tmp_path / "cache"}
    with caplog.at_level(logging.WARNING):
        small = config_of(stage, unlike, tmp_path / "small", **cached, feature_cache_gb=3e-5)
        assert losses(small) == pytest.approx(plain, abs=1e-6)
        kept = list((tmp_path / "cache").rglob("*.safetensors"))
        assert kept and sum(path.stat().st_size for path in kept) <= 30_000
        assert "takes no more" in caplog.text
        for path in kept[::2]:
            path.write_bytes(path.read_bytes()[:300])
        assert losses(config_of(stage, unlike, tmp_path / "torn", **cached)) == pytest.approx(plain, abs=1e-6)
        assert "is damaged" in caplog.text


def test_mids_that_sees_padding_keeps_no_texts(unlike: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its encoder gives an answer then depends on the longest answer of the batch."""
    from ffaa.methods.ffaa.mids import MidsProcessor, build_mids
    from tests.methods.ffaa.test_mids_data import TINY

    for masked in (True, False):
        model = build_mids(replace(TINY, padding_mask=masked))
        cache = mids_cache.MidsCache(
            model, MidsProcessor(model.settings, model.tokenizer), tmp_path, 10**6, pictures=False
        )
        assert (cache.texts is not None) == masked and cache.pictures is None


def test_groups_of_like_lengths_depend_on_seed_and_epoch_alone() -> None:
    class Samples:
        lengths = [(7 * index) % 50 for index in range(200)]

    order = LengthGroups(Samples(), 10, seed=1)  # type: ignore[arg-type]
    first = list(order)
    assert first == list(order) == list(LengthGroups(Samples(), 10, seed=1))  # type: ignore[arg-type]
    assert sorted(first) == list(range(200)) != first
    spread = [np.ptp([Samples.lengths[i] for i in first[start : start + 10]]) for start in range(0, 200, 10)]
    assert np.mean(spread) < 15  # of 49; drawn at random it is about 40
    order.set_epoch(1)
    assert list(order) != first


def test_groups_of_like_lengths_reach_the_trainer(unlike: Path, tmp_path: Path) -> None:
    config = config_of("mids", unlike, tmp_path / "out", group_by_length=True)
    trainer = StageTrainer(find_stage("ffaa", "mids").prepare(config), config, training_arguments(config))
    assert isinstance(trainer._get_train_sampler(), LengthGroups)
    with pytest.raises(InputError, match="tell no lengths"):
        LengthGroups([1, 2], 1, 0)  # type: ignore[arg-type]


def test_what_says_nothing_is_refused(unlike: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="feature_cache_gb"):
        StageConfig(feature_cache_gb=0.0)
    with pytest.raises(InputError, match="option augment of stage mids is true or false, not 'no'"):
        find_stage("ffaa", "mids").prepare(config_of("mids", unlike, tmp_path / "out", options={"augment": "no"}))
