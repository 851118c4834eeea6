"""Both stages on two processes, plainly and under DeepSpeed; killed and gone on with, they end as unbroken runs do."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ffaa.config import dump_yaml, load_yaml
from ffaa.methods import find_stage
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.runtime import PROJECT_ROOT
from ffaa.training.state import last_whole_state

LAUNCHERS = {
    "one": [sys.executable],
    "ddp": [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "{port}"],
    "zero": ["deepspeed", "--num_accelerators", "2", "--no_local_rank", "--master_port", "{port}"],
}
STEPS = 6


def launch(
    way: str, output: Path, *flags: str, config: Path, kill: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Train in ``way``: one, ddp, zero2 or zero3."""
    port = str(random.randint(20000, 60000))
    command = [part.format(port=port) for part in LAUNCHERS["zero" if way.startswith("zero") else way]]
    command += [
        str(PROJECT_ROOT / ("train.py" if kill is None else "tests/training/killed.py")),
        "--config",
        str(config),
    ]
    command += ["--output", str(output), *flags]
    if way.startswith("zero"):
        command += ["--deepspeed", str(config.parent / f"{way}.json")]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    if kill is not None:
        environment["KILL"] = kill
    try:
        return run(command, environment)
    finally:
        free_shared_memory(port)


def free_shared_memory(port: str) -> None:
    """DeepSpeed on a CPU leaves 138 MB a launch in the machine's shared memory, whether or not it was killed."""
    for left in Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_*_{port}_*"):
        left.unlink(missing_ok=True)


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """To its end; what takes too long is ended with all that it started, for launchers killed alone leave ranks."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, cwd=PROJECT_ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=900)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def finished(way: str, output: Path, *flags: str, config: Path) -> Path:
    done = launch(way, output, *flags, config=config)
    assert done.returncode == 0, done.stderr[-3000:]
    return output


def losses(output: Path) -> list[float]:
    return [entry["loss"] for entry in json.loads((output / "manifest.json").read_text())["log"] if "loss" in entry]


def assert_same_end(first: Path, second: Path) -> None:
    """To the last bit."""
    expected, found = (load_file(folder / "mllm" / "adapter_model.safetensors") for folder in (first, second))
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    assert losses(second) == losses(first)


@pytest.fixture
def config(data: Path, tmp_path: Path) -> Path:
    """Stage 1 with dropout, so that random streams are a part of what must be gone on with; ZeRO cuts all it can."""
    groups = [ParameterGroup("lora_", 1e-2), ParameterGroup(r"multi_modal_projector\.modules_to_save", 2e-3)]
    stage = StageConfig(model="tiny", stage="mllm", data=data, groups=groups, max_steps=STEPS, batch_size=2)
    values = {"dtype": "float32", "device": "cpu", "save_steps": 2, "log_steps": 1}
    dump_yaml(StageConfig(**{**vars(stage), **values}), tmp_path / "mllm.yaml")
    rest = {**values, "stage": "mids", "groups": [ParameterGroup(".*", 1e-3)]}
    dump_yaml(StageConfig(**{**vars(stage), **rest}), tmp_path / "mids.yaml")
    for way in ("zero2", "zero3"):
        settings = json.loads((PROJECT_ROOT / "configs" / "deepspeed" / f"{way}.json").read_text())
        if way == "zero3":
            settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        (tmp_path / f"{way}.json").write_text(json.dumps(settings))
    return tmp_path / "mllm.yaml"


@pytest.mark.parametrize("way", ["ddp", "zero2", "zero3"])
def test_killed_and_gone_on_with_it_ends_as_if_unbroken(way: str, config: Path, tmp_path: Path) -> None:
    """One rank dies, then all of them, then the first one while it writes a state."""
    flags = ["--group_by_length", "1"] if way == "ddp" else []
    whole = finished(way, tmp_path / "whole", *flags, config=config)
    broken = tmp_path / "broken"
    for kill, state in (("step:3:1", 2), ("step:3:all", 2), (f"{'publish' if way == 'ddp' else 'seal'}:4:0", 2)):
        assert launch(way, broken, *flags, config=config, kill=kill).returncode != 0
        found = last_whole_state(broken / "checkpoints")
        assert found is not None and found[0].name == f"checkpoint-{state}"
    assert_same_end(whole, finished(way, broken, *flags, config=config))


def test_the_language_model_is_trained_by_two_as_by_one(data: Path, config: Path, tmp_path: Path) -> None:
    """Where answers are of one length: each rank averages over its own tokens. Without dropout, which ranks draw."""
    records = (data / "records.jsonl").read_text()
    (data / "records.jsonl").write_text(
        records.replace(": Signs of", ": Many signs of").replace(": No signs of", ": None of it is")
    )
    lengths = {len(json.loads(line)["conversations"][1]["value"]) for line in (data / "records.jsonl").open()}
    assert len(lengths) == 1
    (tmp_path / "model").mkdir()
    model = (PROJECT_ROOT / "configs" / "ffaa" / "tiny" / "model.yaml").read_text()
    (tmp_path / "model" / "model.yaml").write_text(model.replace("dropout: 0.05", "dropout: 0.0"))
    flags = ["--model", str(tmp_path / "model")]
    one = finished("one", tmp_path / "one", *flags, "--batch_size", "4", config=config)
    for way in ("ddp", "zero2", "zero3"):
        kept = ["--feature_cache", str(tmp_path / "features")] if way == "zero3" else []
        two = finished(way, tmp_path / way, *flags, *kept, config=config)
        assert losses(two) == pytest.approx(losses(one), abs=1e-4)


def test_the_judge_is_trained_by_two_as_by_one(config: Path, tmp_path: Path) -> None:
    """MIDS draws nothing at random but its pictures' degradation, which depends on no rank."""
    judge = config.with_name("mids.yaml")
    one = finished("one", tmp_path / "one", "--batch_size", "4", config=judge)
    for way in ("ddp", "zero2", "zero3"):
        assert losses(finished(way, tmp_path / way, config=judge)) == pytest.approx(losses(one), abs=1e-4)


def test_other_ranks_go_on_with_the_same_samples_or_are_refused(config: Path, tmp_path: Path) -> None:
    judge = config.with_name("mids.yaml")
    one = finished("one", tmp_path / "one", "--batch_size", "4", config=judge)
    two = tmp_path / "two"
    assert launch("ddp", two, config=judge, kill="step:3:all").returncode != 0
    refused = launch("one", two, config=judge)
    assert refused.returncode == 2 and "samples a step = 4, not 2" in refused.stderr
    finished("one", two, "--batch_size", "4", config=judge)
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    zero = tmp_path / "zero"
    assert launch("zero2", zero, config=judge, kill="step:3:all").returncode != 0
    refused = launch("one", zero, "--batch_size", "4", config=judge)
    assert refused.returncode == 2 and "deepspeed" in refused.stderr.lower()


@pytest.mark.parametrize(("script", "way"), [("mini_mllm", "zero3"), ("mini_mids", "zero2")])
def test_the_scripts_train_in_bfloat16_and_save_all_of_a_stage(
    script: str, way: str, config: Path, tmp_path: Path
) -> None:
    """What no group takes is frozen and saved as it was: under ZeRO-3 too, where no rank has all of it."""
    stage = script.removeprefix("mini_")
    port = str(random.randint(20000, 60000))
    given = {"CONFIG": config.with_name(f"{stage}.yaml"), "DEEPSPEED_CONFIG": config.with_name(f"{way}.json")}
    environment = {**os.environ, **{name: str(path) for name, path in given.items()}, "MASTER_PORT": port}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    groups = '[{"pattern": "lora_", "lr": 0.01}]' if stage == "mllm" else '[{"pattern": "query", "lr": 0.01}]'
    command = ["bash", str(PROJECT_ROOT / "scripts" / "train" / f"{script}.sh"), "--dtype", "bfloat16"]
    command += ["--groups", groups, "--output", str(tmp_path / "out")]
    try:
        done = run(command, environment)
    finally:
        free_shared_memory(port)
    assert done.returncode == 0, done.stderr[-3000:]
    start = load_yaml(given["CONFIG"], StageConfig)
    find_stage("ffaa", stage).prepare(replace(start, dtype="bfloat16")).save(tmp_path / "start")
    name = f"{stage}/{'adapter_model' if stage == 'mllm' else 'model'}.safetensors"
    before, after = (load_file(tmp_path / folder / name) for folder in ("start", "out"))
    assert before.keys() == after.keys()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved and all(("lora_" if stage == "mllm" else "query") in key for key in moved)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["one", "ddp", "zero2", "zero3"])
@pytest.mark.parametrize("kind", ["one rank", "all ranks", "writing"])
def test_many_kills_lose_nothing(kind: str, way: str, config: Path, tmp_path: Path) -> None:
    """Twenty kills of each kind, five a way to train, at moments drawn at random."""
    whole = finished(way, tmp_path / "whole", "--save_steps", "1", config=config)
    draw = random.Random(f"{kind}/{way}")
    killed, broken = 0, tmp_path / "broken"
    while killed < 5:
        last = last_whole_state(broken / "checkpoints")
        step = int(last[0].name.removeprefix("checkpoint-")) if last else 0
        ranks = "all" if kind == "all ranks" else str(draw.randrange(1 if way == "one" else 2))
        where = f"after:{draw.randrange(10)}:{ranks}"
        if kind == "writing":
            where = f"{draw.choice(['save', 'seal', 'publish'])}:{draw.randint(min(step + 1, STEPS), STEPS)}:0"
        if launch(way, broken, "--save_steps", "1", config=config, kill=where).returncode != 0:
            killed += 1
        else:  # it was done before its time came
            assert_same_end(whole, broken)
            broken = tmp_path / f"broken-{draw.random()}"
    assert_same_end(whole, finished(way, broken, "--save_steps", "1", config=config))
