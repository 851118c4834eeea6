"""The projector's warm-up: what is folded into a plain LLaVA projector computes what was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from ffaa.forge.explain import Wording
from ffaa.forge.facts import Terciles
from ffaa.methods.base import StageRun
from ffaa.methods.ffaa.warmup import HEADS, ProjectorWarmup, head_targets, stack
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.training.trainer import StageTrainer, training_arguments

WIDTH, LANGUAGE = 8, 16


def make_model() -> ProjectorWarmup:
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=WIDTH, num_attention_heads=2),
        text_config=LlamaConfig(hidden_size=LANGUAGE, num_attention_heads=2),
        vision_feature_layer=[1, 2],
    )
    features = torch.randn(32, 9, 2 * WIDTH) * 3 + 1
    return ProjectorWarmup(LlavaMultiModalProjector(config), LANGUAGE, features.mean((0, 1)), features.std((0, 1)))


def test_folded_projector_is_the_trained_one_up_to_scale() -> None:
    model = make_model()
    sample = torch.randn(4, 9, 2 * WIDTH) * 3 + 1
    expected = model.project((sample - model.mean) / model.std)
    weights = model.folded(sample, embedding_std=0.1)
    model.projector.load_state_dict(weights)
    plain = model.projector(sample)
    torch.testing.assert_close(plain, expected * (0.1 / expected.std()), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain.std(), torch.tensor(0.1), rtol=1e-4, atol=0)


def test_heads_without_a_target_have_no_say() -> None:
    model = make_model().eval()
    features, mask = torch.randn(2, 9, 2 * WIDTH), torch.zeros(2, 9)
    targets = torch.full((2, len(HEADS)), -100)
    targets[:, 0] = torch.tensor([0, 1])
    model(features, targets, mask).loss.backward()
    assert model.heads["label"].weight.grad is not None
    assert model.heads["region"].weight.grad is None


def test_the_validation_set_has_a_loss_and_samples_are_counted(tmp_path: Path) -> None:
    labels, mask = torch.zeros(len(HEADS), dtype=torch.long), torch.zeros(9)
    samples = [{"features": torch.randn(9, 2 * WIDTH), "labels": labels, "mask": mask} for _ in range(4)]
    groups = [ParameterGroup(".*", 1e-3)]
    config = StageConfig(stage="projector", data=tmp_path, output=tmp_path, groups=groups, batch_size=2, report_to=[])
    config = replace(config, device="cpu", dtype="float32", log_steps=1, max_steps=2)
    run = StageRun(make_model(), samples, samples, stack, lambda folder: None)  # type: ignore[arg-type]
    trainer = StageTrainer(run, config, training_arguments(config))
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
    trained = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(trained) == 2 and all(entry["samples_per_second"] > 0 for entry in trained)


def test_targets_say_what_was_done_and_measured() -> None:
    low_high = (1.0, 2.0)
    wording = Wording(Terciles(low_high, low_high, low_high, low_high, low_high), {})
    facts = dict.fromkeys(("brightness", "sharpness", "background", "sharpness_ratio", "tone_difference"), 1.5)
    facts |= {"brightness": 3.0, "yaw": -0.5, "mouth": 0.3, "saturation": 50.0}
    picture = {
        "label": "fake",
        "kind": "local",
        "regions": ["nose"],
        "artefacts": {"operation": "blurred"},
        "facts": facts,
    }
    targets = dict(zip(HEADS, head_targets(picture, wording), strict=True))
    assert (targets["label"], targets["kind"], targets["region"], targets["operation"]) == (1, 3, 2, 2)
    assert (targets["brightness"], targets["sharpness"], targets["pose"], targets["mouth"], targets["grey"]) == (
        2,
        1,
        1,
        1,
        0,
    )
    assert targets["edge"] == targets["light"] == -100
