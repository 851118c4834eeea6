"""Published folders to a checkpoint that the programs load, and a checkpoint to a folder that transformers loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ffaa.backbones.adapter import attach_lora, load_mllm, save_adapter
from ffaa.backbones.generation import GenerationSettings, TransformersEngine
from ffaa.backbones.mllm import MllmConfig, build_mllm
from ffaa.config import load_yaml
from ffaa.methods import load_method
from ffaa.methods.checkpoint import read_checkpoint
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.ffaa.mids import build_mids
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import InputError, Request
from scripts import convert_checkpoint, merge_lora
from tests.backbones import published_llava as published
from tests.backbones.published_llava import answers_of_transformers_alone, lora, picture
from tests.methods.ffaa.published_names import to_published

TINY = load_yaml(PROJECT_ROOT / "configs/ffaa/tiny/model.yaml", FfaaConfig)
MODEL: dict[str, Any] = {
    "mllm": {"base": "someone/published", "image_size": published.SIDE, "image_aspect": "pad", "template": "vicuna_v1"},
    "mids": {
        "text": {"model_type": "t5", "vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1,
                 "num_heads": 4},
        "hidden_dim": 32, "heads": 8, "image_size": 32, "max_text_tokens": 128,
    },
    "max_new_tokens": 8,
}  # fmt: skip
VISION = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
          "image_size": 32, "patch_size": 8}  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, program: Any, **flags: object) -> int:
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    monkeypatch.setattr(sys, "argv", [program.__name__, *arguments])
    code: int = program.main()
    return code


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder with its YAML; MIDS stands on an image tower in a folder."""
    folder = tmp_path_factory.mktemp("model")
    config = load_yaml_of({**MODEL, "mids": {**MODEL["mids"], "vision": VISION}}, folder)
    build_mids(config.mids).image_encoder.save_pretrained(folder / "clip")
    load_yaml_of({**MODEL, "mids": {**MODEL["mids"], "vision": str(folder / "clip")}}, folder)
    return folder


def load_yaml_of(values: dict[str, Any], folder: Path) -> FfaaConfig:
    (folder / "model.yaml").write_text(yaml.safe_dump(values))
    return load_yaml(folder / "model.yaml", FfaaConfig)


@pytest.fixture(scope="module")
def source(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the authors share theirs: a merged LLaVA and mids.pth in one folder."""
    folder = published.write(tmp_path_factory.mktemp("hub") / "ffaa", published.weights(), published.settings())
    config = load_yaml(model / "model.yaml", FfaaConfig)
    torch.save(to_published(build_mids(config.mids, seed=3).trainable_state()), folder / "mids.pth")
    return folder


def test_published_weights_become_a_checkpoint(
    source: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(monkeypatch, convert_checkpoint, source=source, model=model, out=out) == 0
    said = capsys.readouterr().out
    assert "dropped: model.image_newline: ends the rows of tiles in anyres mode" in said
    report = json.loads((out / "conversion.json").read_text())
    for part, tensors in (("mllm", published.weights()), ("mids", torch.load(source / "mids.pth", weights_only=True))):
        account = report["parts"][part]
        assert account["used"].keys() | account["dropped"].keys() == tensors.keys()
    assert report["mids"] == "mids.pth"
    assert str(tmp_path) not in (out / "conversion.json").read_text() + (out / "checkpoint.json").read_text()
    facts = read_checkpoint(out)
    assert facts["method"] == "ffaa" and facts["bases"].keys() == {"mids.vision", "mids.text"}
    stored = json.loads((out / "mids/config.json").read_text())
    assert stored["padding_mask"] is False and stored["mask_answers"] is True
    method = load_method("ffaa", model_dir=model, checkpoint=out, device="cpu", dtype="float32")
    requests = [Request(image=picture(seed=seed), id=str(seed)) for seed in range(2)]
    analyses = method.analyze(requests)
    assert [len(analysis.answers) for analysis in analyses] == [3, 3]
    # the model.yaml that it brings is enough
    load_method("ffaa", model_dir=out, checkpoint=out, device="cpu", dtype="float32")


def test_a_checkpoint_that_was_changed_is_told_by_its_weights(
    source: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ffaa.methods.checkpoint import mllm_fingerprint

    run(monkeypatch, convert_checkpoint, source=source, model=model, out=tmp_path / "a")
    run(monkeypatch, convert_checkpoint, source=source, model=model, out=tmp_path / "b", dtype="bfloat16")
    config = load_yaml(model / "model.yaml", FfaaConfig).mllm
    assert mllm_fingerprint(config, tmp_path / "a").keys() == {"mllm", "mllm_checkpoint"}
    assert mllm_fingerprint(config, tmp_path / "a") != mllm_fingerprint(config, tmp_path / "b")


def test_another_layout_of_the_conversation_is_refused(
    source: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, convert_checkpoint, source=source, model=model, out=tmp_path / "out")
    values = yaml.safe_load((model / "model.yaml").read_text())
    values["mllm"]["template"] = "own"
    load_yaml_of(values, tmp_path)
    load_method("ffaa", model_dir=tmp_path, checkpoint=tmp_path / "out", device="cpu", dtype="float32")  # the same
    layout = tmp_path / "out/mllm/chat_template.jinja"
    layout.write_text(layout.read_text().replace("ASSISTANT:", "BOT:"))
    with pytest.raises(InputError, match="another tokenizer or layout of the conversation"):
        load_method("ffaa", model_dir=tmp_path, checkpoint=tmp_path / "out", device="cpu", dtype="float32")


def test_a_language_model_or_a_selector_alone(
    source: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, convert_checkpoint, mids=source / "mids.pth", model=model, out=tmp_path / "selector",
        mids_padding_mask=1, mids_channel_order="bgr", mids_mask_answers=0)  # fmt: skip
    stored = json.loads((tmp_path / "selector/mids/config.json").read_text())
    assert (stored["padding_mask"], stored["channel_order"], stored["mask_answers"]) == (True, "bgr", False)
    lora(tmp_path / "lora", published.weights())
    run(monkeypatch, convert_checkpoint, source=tmp_path / "lora", base=source, model=model, out=tmp_path / "llava")
    assert read_checkpoint(tmp_path / "llava")["method"] == "llava"
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml/model.yaml").write_text(yaml.safe_dump({"mllm": MODEL["mllm"], "max_new_tokens": 4}))
    method = load_method("llava", model_dir=tmp_path / "yaml", checkpoint=tmp_path / "llava", device="cpu")
    assert method.analyze([Request(image=picture(), id="0")])[0].answers


def trained(folder: Path, config: MllmConfig) -> Path:
    """Output of stage mllm whose adapters are no longer zero."""
    model = attach_lora(build_mllm(config, seed=7), config, seed=7)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    save_adapter(model, folder / "mllm", torch.float32)
    return folder


def test_out_and_in_again_is_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_ = trained(tmp_path / "run", TINY.mllm)
    assert run(monkeypatch, convert_checkpoint, source=run_, to="hf", model="tiny", out=tmp_path / "plain") == 0
    ours = load_mllm(TINY.mllm, run_)
    assert run(monkeypatch, convert_checkpoint, source=tmp_path / "plain", model="tiny", out=tmp_path / "again") == 0
    again = load_mllm(TINY.mllm, tmp_path / "again")
    expected, found = ours.model.state_dict(), again.model.state_dict()
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    # and once more: not a tensor of the files differs
    run(monkeypatch, convert_checkpoint, source=tmp_path / "again", to="hf", model="tiny", out=tmp_path / "twice")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("again/mllm", "twice"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert again.tokenizer.get_vocab() == ours.tokenizer.get_vocab()
    questions = ["Real or fake?", "Why?"]
    (texts,) = TransformersEngine(ours, GenerationSettings(max_new_tokens=20)).ask([picture(40, 50)], [questions])
    answers = answers_of_transformers_alone(tmp_path / "twice", (40, 50), questions, tmp_path)
    assert answers == [text.text for text in texts]


def test_merging_writes_every_tensor_in_its_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_ = trained(tmp_path / "run", TINY.mllm)
    expected = load_mllm(TINY.mllm, run_).model.state_dict()
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        assert run(monkeypatch, merge_lora, checkpoint=run_, model="tiny", out=tmp_path / name, dtype=name) == 0
        assert "read back" in capsys.readouterr().out
        found = build_mllm(MllmConfig(base=str(tmp_path / name), template="chatml"), dtype=dtype).model.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key].to(dtype)) for key in expected)
    with pytest.raises(InputError, match="is there already and not an empty folder"):
        run(monkeypatch, merge_lora, checkpoint=run_, model="tiny", out=tmp_path / "float32")
    with pytest.raises(InputError, match="lies in the checkpoint"):
        run(monkeypatch, merge_lora, checkpoint=run_, model="tiny", out=run_ / "mllm" / "new")
    with pytest.raises(InputError, match="holds no folder mllm"):
        run(monkeypatch, merge_lora, checkpoint=tmp_path, model="tiny", out=tmp_path / "none")
    adapter = run_ / "mllm/adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot read the adapter"):
        run(monkeypatch, merge_lora, checkpoint=run_, model="tiny", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_done_is_said_and_nothing_is_touched(
    source: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    for flags, said in (
        ({"source": source, "out": mine}, "is not empty and was not made by this program"),
        ({"source": source, "out": source}, "is not empty"),
        ({"source": source, "out": source.parent}, "is not empty"),
        ({"source": source, "out": source / "new"}, "lies in its own source"),
        ({"source": source / "mids.pth", "out": tmp_path / "x"}, "--mids a selector's file"),
        ({"source": tmp_path / "absent", "out": tmp_path / "x"}, "no such folder"),
        ({"source": mine, "out": tmp_path / "x"}, "holds no LLaVA model: it holds no config.json"),
        ({"source": "someone/not-fetched", "out": tmp_path / "x"}, "are fetched first"),
        ({"mids": mine / "letter.txt", "out": tmp_path / "x"}, "letter.txt is no file of weights"),
        ({"mids": source / "pytorch_model-00001-of-00003.bin", "out": tmp_path / "x"}, "is no selector of FFAA"),
    ):
        with pytest.raises(InputError, match=said):
            run(monkeypatch, convert_checkpoint, model=model, **flags)
    assert (mine / "letter.txt").read_text() == "dear" and (source / "mids.pth").is_file()
    assert not (tmp_path / "x").exists()


def test_a_failure_midway_leaves_the_earlier_output(
    source: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(monkeypatch, convert_checkpoint, source=source, model=model, out=out)
    before = (out / "conversion.json").read_text()
    tensors = published.weights()
    tensors["model.norm.weight"][0] = float("inf")
    broken = published.write(tmp_path / "broken", tensors, published.settings())
    with pytest.raises(InputError, match="model.norm.weight holds NaN or infinity"):
        run(monkeypatch, convert_checkpoint, source=broken, model=model, out=out)
    assert (out / "conversion.json").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "out"]


def test_a_selector_is_not_ignored_where_a_plain_folder_is_made() -> None:
    with pytest.raises(InputError, match="leave out --mids"):
        convert_checkpoint.Options(source="a", mids=Path("mids.pth"), to="hf", out=Path("b"))


def test_usage_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT_ROOT / "scripts/convert_checkpoint.py"), "--source", str(tmp_path / "no")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.splitlines() == [
        "error: give the folder that is to be made: --out (see convert_checkpoint.py --help)"
    ]


_PEAK = """
import sys
from pathlib import Path
import torch
from ffaa.backbones import llava_convert

def kilobytes(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
llava_convert.convert_llava(folder / "small", folder / "warm")  # what the libraries take themselves
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = kilobytes("VmRSS")
llava_convert.convert_llava(folder / "large", out, shard_bytes=int(sys.argv[3]))
print((kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.parametrize(
    ("kind", "shard"),
    [("bin3", 40_000_000), pytest.param("safetensors3", 120_000_000, marks=pytest.mark.slow)],
)
def test_memory_stays_at_one_shard_of_each(kind: str, shard: int, tmp_path: Path) -> None:
    """A checkpoint of 390 MB in three shards, of which never more than 1.3 x (a shard in + a shard out) is held."""
    published.write(tmp_path / "small", published.weights(), published.settings(), kind=kind)
    (tmp_path / "warm").mkdir()
    (tmp_path / "out").mkdir()
    layers = 20
    values = published.settings(hidden_size=512, intermediate_size=5 * 512, num_hidden_layers=layers)
    published.write(tmp_path / "large", published.weights(width=512, layers=layers, wide=5), values, kind=kind)
    largest = max(path.stat().st_size for path in (tmp_path / "large").glob("*model-*"))
    total = sum(path.stat().st_size for path in (tmp_path / "large").glob("*model-*"))
    arguments = [str(tmp_path), str(tmp_path / "out"), str(shard)]
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *arguments], capture_output=True, text=True, cwd=PROJECT_ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peak = int(done.stdout.splitlines()[-1])
    sizes = f"peak {peak / 1e6:.0f} MB; {largest / 1e6:.0f} in, {shard / 1e6:.0f} out, {total / 1e6:.0f} in all"
    print(sizes)
    assert total > 3e8 and 0.5 * largest < peak < 1.3 * (largest + shard), sizes
