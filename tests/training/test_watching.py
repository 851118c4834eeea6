"""What is seen of a training: curves, answers, verdicts; none of it changes what is learnt."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from ffaa.config import dump_yaml, parse
from ffaa.methods import find_stage
from ffaa.methods.base import StageRun
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.runtime import PROJECT_ROOT
from ffaa.training.samples import balanced
from ffaa.training.trainer import StageTrainer, train, training_arguments
from ffaa.training.watching import keep_best, places, read_best, recover, undisturbed
from ffaa.types import InputError
from tests.training.test_ranks import launch

WEIGHTS = {"mllm": "mllm/adapter_model.safetensors", "mids": "mids/model.safetensors"}


def stage_config(stage: str, data: Path, output: Path, **changes: object) -> StageConfig:
    groups = {
        "mllm": [ParameterGroup("lora_", 1e-2), ParameterGroup(r"multi_modal_projector\.modules_to_save", 2e-3)],
        "mids": [ParameterGroup(".*", 1e-3)],
    }[stage]
    config = StageConfig(model="tiny", stage=stage, data=data, validation=data, output=output, groups=groups)
    config = replace(config, epochs=2, batch_size=4, dtype="float32", device="cpu", save_steps=2, log_steps=1)
    watched = {"sample_steps": 2, "validation_steps": 2, "validation_samples": 6}
    return replace(config, **{**watched, **changes})  # type: ignore[arg-type]


def same_weights(stage: str, first: Path, second: Path) -> bool:
    one, other = (load_file(folder / WEIGHTS[stage]) for folder in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stage", ["mllm", "mids"])
def test_watching_changes_no_bit_and_leaves_its_files(stage: str, data: Path, tmp_path: Path) -> None:
    blind = {"sample_steps": 0, "validation_steps": 0, "report_to": []}
    plain = train(find_stage("ffaa", stage), stage_config(stage, data, tmp_path / "plain", **blind))
    seen = train(find_stage("ffaa", stage), stage_config(stage, data, tmp_path / "seen"))
    assert same_weights(stage, plain, seen)
    assert not any((plain / name).exists() for name in ("tensorboard", "samples", "best"))
    for step in (2, 4):
        text = (seen / "samples" / f"step-{step}.txt").read_text()
        assert text.count("truth: real") == text.count("truth: fake") == 4
        assert ("match " in text) == (stage == "mids")
        assert Image.open(seen / "samples" / f"step-{step}.png").size == (4 * 224, 2 * (224 + 48))
    best = json.loads((seen / "best" / "validation.json").read_text())
    assert best["step"] in (2, 4) and best["pictures"] == 6 and 0 <= best["auc"] <= 1
    assert (seen / "best" / WEIGHTS[stage]).is_file()
    assert not any(place.exists() for place in places(seen)[1:])


def test_curves_are_read_back(data: Path, tmp_path: Path) -> None:
    output = train(find_stage("ffaa", "mllm"), stage_config("mllm", data, tmp_path / "out"))
    events = EventAccumulator(str(output / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    rates = {"train/lr/lora_": 1e-2, "train/lr/multi_modal_projector_.modules_to_save": 2e-3}
    speeds = {"train/tokens_per_second", "train/samples_per_second", "train/process_gb"}
    assert {"train/loss", "train/grad_norm", *rates, *speeds} <= set(tags["scalars"])
    assert {"eval/verdict_accuracy", "eval/verdict_auc", "eval/loss"} <= set(tags["scalars"])
    for tag, peak in rates.items():
        found = [event.value for event in events.Scalars(tag)]
        assert [event.step for event in events.Scalars(tag)] == [1, 2, 3, 4]
        assert found == pytest.approx([0, peak, 0.75 * peak, 0.25 * peak])  # a step of warm-up, then the cosine
    assert all(event.value > 0 for tag in speeds for event in events.Scalars(tag))
    assert [event.step for event in events.Images("samples/pictures")] == [2, 4]
    assert any(tag.startswith("samples/answers") for tag in tags["tensors"])


def test_a_watched_training_gone_on_with_ends_as_unbroken(data: Path, tmp_path: Path) -> None:
    whole = train(find_stage("ffaa", "mllm"), stage_config("mllm", data, tmp_path / "whole"))
    config = stage_config("mllm", data, tmp_path / "broken")

    class Cut(Exception):
        pass

    run = find_stage("ffaa", "mllm").prepare(config)
    torch.manual_seed(0)
    trainer = StageTrainer(run, config, training_arguments(config))
    inner = trainer.training_step

    def cut_after_three(*args: object, **keywords: object) -> torch.Tensor:
        if trainer.state.global_step == 3:
            raise Cut
        return inner(*args, **keywords)

    trainer.training_step = cut_after_three
    with pytest.raises(Cut):
        trainer.train()
    first = read_best(config.output)
    assert first is not None and first["step"] == 2
    resumed = train(find_stage("ffaa", "mllm"), config)
    assert same_weights("mllm", whole, resumed)
    assert read_best(resumed) == read_best(whole) and same_weights("mllm", whole / "best", resumed / "best")
    texts = [(folder / "samples" / "step-4.txt").read_text() for folder in (whole, resumed)]
    assert texts[0] == texts[1]
    events = EventAccumulator(str(resumed / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]


def test_two_ranks_look_at_each_picture_once_and_one_draws_the_bar(data: Path, tmp_path: Path) -> None:
    config = stage_config("mids", data, tmp_path / "out", max_steps=2, batch_size=2, validation_samples=7)
    dump_yaml(config, tmp_path / "mids.yaml")
    for way, output in (("one", tmp_path / "one"), ("ddp", tmp_path / "two")):
        size = ["--batch_size", "4"] if way == "one" else []
        done = launch(way, output, *size, config=tmp_path / "mids.yaml")
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr.count("0/2 [00:00<?") == 2, done.stderr  # of the training and of the loss of validation
        assert done.stdout.count("'lr/._'") == 2, done.stdout
    one, two = read_best(tmp_path / "one"), read_best(tmp_path / "two")
    assert one is not None and two is not None and two["pictures"] == 7
    assert two == pytest.approx(one, abs=1e-4)


@pytest.mark.parametrize("stage", ["mllm", pytest.param("mids", marks=pytest.mark.slow)])
def test_under_deepspeed_answers_and_verdicts_are_those_of_a_whole_model(
    stage: str, data: Path, tmp_path: Path
) -> None:
    """Seven pictures on two ranks: under ZeRO-3 both must still come to each layer as often as the other."""
    config = stage_config(stage, data, tmp_path / "out", max_steps=4, batch_size=2, validation_samples=7)
    dump_yaml(config, tmp_path / "stage.yaml")
    for way in ("zero2", "zero3"):
        settings = json.loads((PROJECT_ROOT / "configs" / "deepspeed" / f"{way}.json").read_text())
        if way == "zero3":
            settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        (tmp_path / f"{way}.json").write_text(json.dumps(settings))
    blind = ["--sample_steps", "0", "--validation_steps", "0"]
    for name, way, flags in (("whole", "zero2", []), ("cut", "zero3", []), ("blind", "zero3", blind)):
        done = launch(way, tmp_path / name, *flags, config=tmp_path / "stage.yaml")
        assert done.returncode == 0, done.stderr[-3000:]
    assert same_weights(stage, tmp_path / "blind", tmp_path / "cut")
    for step in (2, 4):
        whole, cut = ((tmp_path / way / "samples" / f"step-{step}.txt").read_text() for way in ("whole", "cut"))
        assert cut.count("truth: ") == 8 and cut == whole
    found, expected = read_best(tmp_path / "cut"), read_best(tmp_path / "whole")
    assert found is not None and expected is not None and found["pictures"] == 7
    assert found == pytest.approx(expected, abs=1e-3)


def test_the_best_result_is_replaced_whole_by_a_better_one_alone(tmp_path: Path) -> None:
    saved = iter("abcd")

    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_text(next(saved))

    run = StageRun(torch.nn.Identity(), [], None, dict, save)  # type: ignore[arg-type]
    for step, auc, accuracy, kept in ((1, None, 0.9, "a"), (2, 0.5, 0.5, "b"), (3, 0.5, 0.5, "b"), (4, 0.5, 0.6, "c")):
        keep_best(run, tmp_path, {"step": step, "auc": auc, "accuracy": accuracy})
        assert (tmp_path / "best" / "weights").read_text() == kept
    best, unfinished, before = places(tmp_path)
    best.rename(before)  # killed between the two renamings
    unfinished.mkdir()
    recover(tmp_path, afresh=False)
    found = read_best(tmp_path)
    assert found is not None and found["step"] == 4 and not unfinished.exists()
    recover(tmp_path, afresh=True)
    assert read_best(tmp_path) is None


def test_a_full_disk_leaves_the_best_result(tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "validation.json").write_text('{"auc": 0.1, "accuracy": 0.1}')

    def save(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    run = StageRun(torch.nn.Identity(), [], None, dict, save)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="No space left"):
        keep_best(run, tmp_path, {"auc": 0.9, "accuracy": 0.9})
    assert read_best(tmp_path) == {"auc": 0.1, "accuracy": 0.1}


def test_random_streams_and_mode_are_given_back() -> None:
    model = torch.nn.Linear(1, 1)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    modes = [model.training]
    with undisturbed(model):
        torch.rand(5)
        modes.append(model.training)
    assert [*modes, model.training] == [True, False, True] and torch.equal(torch.rand(1), expected)


def test_the_subset_is_fixed_and_balanced() -> None:
    labels = ["real"] * 90 + ["fake"] * 10
    chosen = balanced(labels, 8, seed=1)
    assert chosen == balanced(labels, 8, seed=1)
    assert chosen != balanced(labels, 8, seed=2)
    assert sum(labels[index] == "fake" for index in chosen) == 4
    assert sorted(balanced(labels, 200, seed=1)) == list(range(100))


def test_reporters_that_are_not_there_are_said(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    config = stage_config("mllm", data, tmp_path / "out")
    with pytest.raises(InputError, match="wandb, which is not installed: pip install wandb"):
        training_arguments(replace(config, report_to="wandb"))
    with pytest.raises(InputError, match=r"tensorboard, which is not installed: pip install 'ffaa\[train\]'"):
        training_arguments(replace(config, report_to=["tensorboard"]))
    assert training_arguments(config).report_to == []
    assert "TensorBoard is not installed" in caplog.text
    with pytest.raises(InputError, match="knows tensorboard, wandb, not 'tensorbord'"):
        replace(config, report_to="tensorbord")


@pytest.mark.parametrize(("said", "read"), [("wandb", ["wandb"]), ("[tensorboard, wandb]", ["tensorboard", "wandb"])])
def test_reporters_are_given_by_flag(said: str, read: list[str]) -> None:
    assert parse(StageConfig, ["--report_to", said], prog="", description="").reporters == read
