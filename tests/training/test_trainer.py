"""The trainer on the real stages at size tiny: what should learn learns, a resumed run equals an unbroken one."""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ffaa.methods import find_stage
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.runtime import locked
from ffaa.training.state import last_whole_state, seal
from ffaa.training.trainer import StageTrainer, _refuse_folders_of_their_own, freeze, train, training_arguments
from ffaa.types import InputError


def mllm_config(data: Path, output: Path, **changes: object) -> StageConfig:
    groups = [ParameterGroup("lora_", 1e-2), ParameterGroup(r"multi_modal_projector\.modules_to_save", 1e-2)]
    config = StageConfig(
        model="tiny", stage="mllm", data=data, output=output, groups=groups, epochs=2, batch_size=4, dtype="float32"
    )
    return replace(config, device="cpu", save_steps=2, log_steps=1, **changes)  # type: ignore[arg-type]


def hashes(model: torch.nn.Module) -> dict[str, str]:
    return {n: hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for n, p in model.named_parameters()}


@pytest.mark.parametrize("stage", ["mllm", "mids"])
def test_exactly_what_the_groups_name_changes(stage: str, data: Path, tmp_path: Path) -> None:
    config = mllm_config(data, tmp_path / "out")
    if stage == "mids":
        config = replace(config, stage="mids", groups=[ParameterGroup(".*", 1e-2)])
    run = find_stage("ffaa", stage).prepare(config)
    may_learn = {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    assert may_learn and not any("text_encoder" in name or "vision_tower" in name for name in may_learn)
    before = hashes(run.model)
    StageTrainer(run, config, training_arguments(config)).train()
    after = hashes(run.model)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= may_learn
    # LoRA's B starts at zero, so A has no gradient in the very first step, but everything moves within four.
    assert len(changed) > 0.9 * len(may_learn)


@pytest.mark.parametrize(("dtype", "native"), [("bfloat16", False), ("bfloat16", True), ("float32", False)])
def test_emulated_bfloat16_is_said(
    dtype: str, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ffaa.training.trainer.has_bfloat16", lambda device: native)
    training_arguments(replace(mllm_config(tmp_path, tmp_path / "out"), dtype=dtype))
    assert ("give --dtype float32" in caplog.text) == (dtype == "bfloat16" and not native)


def test_loss_falls(data: Path, tmp_path: Path) -> None:
    output = train(find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "out", max_steps=30))
    losses = [entry["loss"] for entry in json.loads((output / "manifest.json").read_text())["log"] if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]
    assert (output / "mllm" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("mixstyle", [0.0, 1.0])
def test_resumed_equals_unbroken(mixstyle: float, data: Path, tmp_path: Path) -> None:
    whole = train(find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "whole", options={"mixstyle": mixstyle}))
    config = mllm_config(data, tmp_path / "broken", options={"mixstyle": mixstyle})
    run = find_stage("ffaa", "mllm").prepare(config)
    torch.manual_seed(0)

    class Cut(Exception):
        pass

    trainer = StageTrainer(run, config, training_arguments(config))
    inner = trainer.training_step

    def cut_after_three(*args: object, **keywords: object) -> torch.Tensor:
        if trainer.state.global_step == 3:
            raise Cut
        return inner(*args, **keywords)

    trainer.training_step = cut_after_three
    with pytest.raises(Cut):
        trainer.train()
    resumed = train(find_stage("ffaa", "mllm"), config)
    expected = load_file(whole / "mllm" / "adapter_model.safetensors")
    for name, tensor in load_file(resumed / "mllm" / "adapter_model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_it_goes_on_from_an_adapter(data: Path, tmp_path: Path) -> None:
    first = train(find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "first", max_steps=2))
    run = find_stage("ffaa", "mllm").prepare(mllm_config(data, tmp_path / "second", init=first))
    run.save(tmp_path / "untouched")
    saved = load_file(first / "mllm" / "adapter_model.safetensors")
    for name, tensor in load_file(tmp_path / "untouched" / "mllm" / "adapter_model.safetensors").items():
        assert torch.equal(tensor, saved[name])


def test_an_adapter_of_another_scale_is_refused(data: Path, tmp_path: Path) -> None:
    """Its tensors have the same shapes, but would start with another change of the model than they were trained to."""
    first = train(find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "first", max_steps=1))
    settings = first / "mllm" / "adapter_config.json"
    values = json.loads(settings.read_text())
    settings.write_text(json.dumps({**values, "lora_alpha": 2 * values["lora_alpha"]}))
    with pytest.raises(InputError, match="has lora_alpha = "):
        find_stage("ffaa", "mllm").prepare(mllm_config(data, tmp_path / "second", init=first))


def test_weights_that_overflow_end_the_training_and_sound_states_stay(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = StageTrainer.training_step

    def overflow(self: StageTrainer, *arguments: object, **keywords: object) -> torch.Tensor:
        if self.state.global_step == 3:
            next(iter(self.learning().values())).data.fill_(float("nan"))
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(StageTrainer, "training_step", overflow)
    config = mllm_config(data, tmp_path / "out", max_steps=6)
    with pytest.raises(InputError, match=r"step 4 .*no finite numbers"):
        train(find_stage("ffaa", "mllm"), replace(config, save_steps=2, log_steps=1))
    assert not (tmp_path / "out" / "mllm").exists()
    found = last_whole_state(tmp_path / "out" / "checkpoints")
    assert found is not None and found[0].name == "checkpoint-2"


@pytest.mark.parametrize("stage", ["mllm", "projector"])
def test_mixing_pictures_needs_two_in_a_batch(stage: str, data: Path, tmp_path: Path) -> None:
    config = replace(mllm_config(data, tmp_path / "out", options={"mixstyle": 0.5}), stage=stage, batch_size=1)
    with pytest.raises(InputError, match="batch_size 2 or more"):
        config.mixstyle_share()


def test_mids_goes_on_from_a_mids_of_its_own_shape(data: Path, tmp_path: Path) -> None:
    groups = [ParameterGroup(".*", 1e-2)]
    config = replace(mllm_config(data, tmp_path / "first", max_steps=2), stage="mids", groups=groups)
    first = train(find_stage("ffaa", "mids"), config)
    find_stage("ffaa", "mids").prepare(replace(config, init=first)).save(tmp_path / "untouched")
    saved = load_file(first / "mids" / "model.safetensors")
    for name, tensor in load_file(tmp_path / "untouched" / "mids" / "model.safetensors").items():
        assert torch.equal(tensor, saved[name])
    other = json.loads((first / "mids" / "config.json").read_text())
    (first / "mids" / "config.json").write_text(json.dumps({**other, "max_text_tokens": 7}))
    with pytest.raises(InputError, match="is another than model.yaml of tiny describes"):
        find_stage("ffaa", "mids").prepare(replace(config, init=first))
    with pytest.raises(InputError, match="cannot read"):
        find_stage("ffaa", "mids").prepare(replace(config, init=tmp_path / "nowhere"))


def test_freeze_names_patterns_without_parameters() -> None:
    with pytest.raises(InputError, match="nothing_here"):
        freeze(torch.nn.Linear(2, 2), [ParameterGroup(".*", 1.0), ParameterGroup("nothing_here", 1.0)])


def test_weight_decay_spares_biases() -> None:
    groups = freeze(torch.nn.Linear(2, 2), [ParameterGroup(".*", 1.0, weight_decay=0.1)])
    assert {(group["params"][0].ndim, group["weight_decay"]) for group in groups} == {(2, 0.1), (1, 0.0)}


def test_borrowed_statistics_are_for_training_alone(data: Path, tmp_path: Path) -> None:
    run = find_stage("ffaa", "mllm").prepare(mllm_config(data, tmp_path / "out", options={"mixstyle": 1.0}))
    batch = run.collate([run.train[0], run.train[1]])

    def loss() -> float:
        with torch.no_grad():
            return float(run.model(**batch).loss)

    run.model.eval()
    assert loss() == loss()
    plain = loss()
    run.model.train()
    for module in run.model.modules():  # so that nothing else is drawn
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    torch.manual_seed(0)
    # Of two pictures every other draw pairs each with itself.
    assert max(abs(loss() - plain) for _ in range(8)) > 1e-3


@pytest.mark.parametrize(
    ("stage", "options", "said"),
    [
        ("mllm", {"slot": {}}, "stage mllm has no options slot; it has: slots, mixstyle"),
        ("mllm", {"mixstyle": 1.5}, "share from 0 to 1, not 1.5"),
        ("mllm", {"mixstyle": True}, "share from 0 to 1, not True"),
        ("projector", {"slots": {}}, "it has: mixstyle"),
        ("mids", {"mixstyle": 1.0}, "it has: mask_weight"),
    ],
)
def test_options_that_a_stage_does_not_take_are_said(
    stage: str, options: dict[str, object], said: str, data: Path, tmp_path: Path
) -> None:
    config = replace(mllm_config(data, tmp_path / "out", options=options), stage=stage)
    with pytest.raises(InputError, match=said):
        find_stage("ffaa", stage).prepare(config)


def test_missing_projector_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no projector"):
        find_stage("ffaa", "mllm").prepare(mllm_config(data, tmp_path / "out", init=tmp_path))


def test_unknown_stage_is_said() -> None:
    with pytest.raises(InputError, match="projector, mllm, mids"):
        find_stage("ffaa", "mlm")


@pytest.mark.parametrize("torn", ["trainer_state.json", "trainable.safetensors", "optimizer.pt", "state.json"])
def test_a_state_that_is_not_what_was_written_is_passed_over(torn: str, data: Path, tmp_path: Path) -> None:
    """The one before it is whole; what is left to do from there ends where an unbroken run ends."""
    stage = find_stage("ffaa", "mllm")
    whole = train(stage, mllm_config(data, tmp_path / "whole", max_steps=6))
    cut = train(stage, mllm_config(data, tmp_path / "cut", max_steps=6))
    (cut / "mllm" / "adapter_model.safetensors").unlink()
    file = cut / "checkpoints" / "checkpoint-6" / torn
    content = bytearray(file.read_bytes())
    if torn == "optimizer.pt":  # one bit, the size stays
        content[len(content) // 2] ^= 1
    file.write_bytes(content if torn == "optimizer.pt" else content[: len(content) // 2])
    found = last_whole_state(cut / "checkpoints")
    assert found is not None and found[0].name == "checkpoint-4"
    train(stage, mllm_config(data, cut, max_steps=6))
    name = "mllm/adapter_model.safetensors"
    ends = [load_file(folder / name) for folder in (whole, cut)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_a_finished_training_is_not_trained_anew(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage, config = find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "out", max_steps=4)
    first = (train(stage, config) / "mllm" / "adapter_model.safetensors").read_bytes()
    steps = json.loads((tmp_path / "out" / "manifest.json").read_text())["log"]
    train(stage, config)
    assert (tmp_path / "out" / "mllm" / "adapter_model.safetensors").read_bytes() == first
    again = json.loads((tmp_path / "out" / "manifest.json").read_text())["log"]
    assert [e["loss"] for e in again if "loss" in e] == [e["loss"] for e in steps if "loss" in e]


def test_from_the_state_of_the_last_step_no_step_is_taken(data: Path, tmp_path: Path) -> None:
    """Killed once that state was written, in the middle of an epoch, and before its result was."""
    config = mllm_config(data, tmp_path / "out", max_steps=3)
    output = train(find_stage("ffaa", "mllm"), config)
    result = output / "mllm" / "adapter_model.safetensors"
    before, log = result.read_bytes(), json.loads((output / "manifest.json").read_text())["log"]
    result.unlink()
    train(find_stage("ffaa", "mllm"), config)
    again = json.loads((output / "manifest.json").read_text())["log"]
    assert result.read_bytes() == before
    assert [(entry["step"], entry.get("loss")) for entry in again] == [(one["step"], one.get("loss")) for one in log]
    found = last_whole_state(output / "checkpoints")
    assert found is not None and found[0].name == "checkpoint-3"


def test_going_on_with_other_content_under_the_same_names_is_refused(data: Path, tmp_path: Path) -> None:
    stage, config = find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "first", max_steps=2)
    first = train(stage, config)
    (data / "answers-of-another.jsonl").write_text("")  # what the stage does not read may come and go
    train(stage, config)
    second = replace(config, output=tmp_path / "second", init=first)
    train(stage, second)
    weights = first / "mllm" / "adapter_model.safetensors"
    before = weights.read_bytes()
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(InputError, match="another content of init"):
        train(stage, second)
    weights.write_bytes(before)
    train(stage, second)
    records = data / "records.jsonl"
    records.write_text(records.read_text().replace("What is it?", "What is that?"))
    with pytest.raises(InputError, match="another content of data"):
        train(stage, config)


def test_without_resume_a_folder_with_a_state_is_refused(data: Path, tmp_path: Path) -> None:
    stage, config = find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "out", max_steps=2)
    train(stage, replace(config, resume=False))
    with pytest.raises(InputError, match="checkpoint-2 is there already: --resume goes on"):
        train(stage, replace(config, resume=False))


@pytest.mark.parametrize("failing", ["model", "optimizer", "list of files"])
def test_a_full_disk_is_said_and_the_last_state_stays(
    failing: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state at step 4 does not fit; what is there of step 2 is whole, and is gone on from once there is room."""
    stage, config = find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "out", max_steps=4)
    whole = train(stage, mllm_config(data, tmp_path / "whole", max_steps=4))
    place = {"model": "save_file", "optimizer": "torch.save", "list of files": "seal"}[failing]
    target = f"ffaa.training.trainer.{place}" if place != "torch.save" else place
    write: Any = {"save_file": save_file, "torch.save": torch.save, "seal": seal}[place]

    def full(*arguments: Any, **keywords: Any) -> Any:
        if "checkpoint-4" in str(arguments):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(target, full)
        with pytest.raises(InputError, match="cannot save .*checkpoint-4: .*No space left on device"):
            train(stage, config)
    found = last_whole_state(tmp_path / "out" / "checkpoints")
    assert found is not None and found[0].name == "checkpoint-2"
    train(stage, config)
    name = "mllm/adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes()


def test_going_on_under_options_that_change_the_result_is_refused(data: Path, tmp_path: Path) -> None:
    stage, out = find_stage("ffaa", "mllm"), tmp_path / "out"
    train(stage, mllm_config(data, out, max_steps=2))
    before = (out / "train.yaml").read_text()
    for change, said in (({"batch_size": 2}, "samples a step = 4, not 2"), ({"seed": 1}, "seed = 0, not 1")):
        with pytest.raises(InputError, match=said):
            train(stage, replace(mllm_config(data, out, max_steps=4), **change))  # type: ignore[arg-type]
    assert (out / "train.yaml").read_text() == before
    train(stage, mllm_config(data, out, max_steps=4))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0}, {"accumulation": -1}, {"epochs": 0.0}, {"epochs": -1.0}, {"max_steps": 0}, {"max_steps": -7},
        {"warmup_share": 100.0}, {"warmup_share": -1.0}, {"max_grad_norm": -1.0}, {"workers": -1}, {"log_steps": 0},
        {"save_steps": 0}, {"dtype": "auto"}, {"epochs": float("nan")},
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        StageConfig(**wrong)  # type: ignore[arg-type]


def test_groups_that_mean_nothing_are_refused() -> None:
    for pattern, lr in (("(", 1e-3), ("a", -1.0), ("a", float("nan"))):
        with pytest.raises(InputError, match="regular expression|lr and weight_decay"):
            ParameterGroup(pattern, lr)


@pytest.mark.parametrize("slots", [5, {"(": 2}, {"face": 2}, {"(face)": "x"}, {"(face)": -1.0}, {"(a)": True}])
def test_slots_that_mean_nothing_are_refused(slots: object, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="option slots"):
        train(find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "out", options={"slots": slots}))


def test_float16_needs_a_gpu_and_a_folder_must_be_to_be_made(data: Path, tmp_path: Path) -> None:
    stage = find_stage("ffaa", "mllm")
    with pytest.raises(InputError, match="float16 is for GPUs"):
        train(stage, replace(mllm_config(data, tmp_path / "out"), dtype="float16"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder"):
        train(stage, mllm_config(data, tmp_path / "file" / "out"))


def test_machines_that_do_not_share_a_folder_are_refused(tmp_path: Path) -> None:
    for rank in (0, 2):
        (tmp_path / f".lock-{rank}").touch()
    with pytest.raises(InputError, match="ranks 1, 3 do not see .*a folder that all machines share"):
        _refuse_folders_of_their_own(tmp_path, 4)
    _refuse_folders_of_their_own(tmp_path, 1)


def test_two_trainings_do_not_share_a_folder(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out", ".lock-0"), pytest.raises(InputError, match="another process is writing"):
        train(find_stage("ffaa", "mllm"), mllm_config(data, tmp_path / "out"))
    assert not (tmp_path / "out" / "train.yaml").exists()
