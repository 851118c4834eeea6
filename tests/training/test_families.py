"""Stage 1 on backbones of many layouts: what is learnt, from which tokens, and that a batch is its samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import inference
import train as door
from ffaa.backbones.adapter import attach_lora, load_mllm
from ffaa.backbones.generation import GenerationSettings, TransformersEngine
from ffaa.backbones.mllm import LoraSettings, Mllm, build_mllm
from ffaa.backbones.parts import parts_of
from ffaa.config import CONFIGS, load_yaml, read_yaml
from ffaa.data.records import write_records
from ffaa.methods import find_stage
from ffaa.methods.base import StageRun
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.ffaa.mllm_stage import IGNORED, AnswerCollator, AnswerModel, Conversation
from ffaa.methods.stage_config import ParameterGroup, StageConfig
from ffaa.training.audit import refuse_adapted_towers
from ffaa.training.plan import make_plan
from ffaa.training.trainer import StageTrainer, training_arguments
from ffaa.types import InputError, Record
from scripts import assemble_checkpoint
from tests.backbones.families import FAMILIES, saved
from tests.backbones.test_families import pictures

ANSWERS = ["Signs of a swap.", "No.", "Forgery reasoning: No signs of editing.\nAnalysis result: real", "Signs."]
QUESTION = "Real or fake?"
SHAPES = [(40, 60), (33, 100), (128, 20), (64, 64)]
LORA = {"r": 4, "alpha": 8, "dropout": 0.0}


@pytest.fixture(scope="module", params=["llava", *FAMILIES])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model.yaml of a tiny model, as one would write it for a model of the hub."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny = read_yaml(CONFIGS / "ffaa/tiny/model.yaml")
    mllm = tiny["mllm"] | {"lora": LORA}
    if request.param != "llava":
        mllm = {"base": saved(request.param, folder / "base").base, "template": "own", "lora": LORA}
    (folder / "model.yaml").write_text(yaml.safe_dump({**tiny, "mllm": mllm}))
    return folder


@pytest.fixture(scope="module")
def mllm(model: Path) -> Mllm:
    return build_mllm(load_yaml(model / "model.yaml", FfaaConfig).mllm)


@pytest.fixture(scope="module")
def adapted(mllm: Mllm) -> AnswerModel:
    """In eval mode, with adapters that do something."""
    wrapped = attach_lora(mllm, mllm.config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if parameter.requires_grad and "lora_B" in name:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return AnswerModel(wrapped).eval()


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> list[Conversation]:
    """Pictures that are tiled in different ways, answers of different lengths."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for index, (image, answer) in enumerate(zip(pictures(), ANSWERS, strict=False)):
        image.save(folder / f"{index}.png")
        rows.append(Conversation(folder / f"{index}.png", QUESTION, answer))
    return rows


@pytest.fixture
def config(model: Path, tmp_path: Path) -> StageConfig:
    """Of a run on eight pictures of two colours and several shapes."""
    folder = tmp_path / "data"
    (folder / "imgs").mkdir(parents=True)
    records = []
    for index in range(8):
        fake = index % 2 == 1
        size = SHAPES[index // 2]
        Image.new("RGB", size, (220, 200, 180) if fake else (20, 30, 40)).save(folder / "imgs" / f"{index}.png")
        said = f"{'Signs' if fake else 'No signs'} of editing.\nAnalysis result: {'fake' if fake else 'real'}"
        turns = ({"from": "human", "value": f"<image>\n{QUESTION}"}, {"from": "gpt", "value": said})
        label = "fake" if fake else "real"
        records.append(Record(id=str(index), image=f"imgs/{index}.png", label=label, conversations=turns))
    write_records(folder / "records.jsonl", records)
    groups = [ParameterGroup("lora_", 1e-2), ParameterGroup("modules_to_save", 1e-2)]
    return StageConfig(
        model=str(model), stage="mllm", data=folder, output=tmp_path / "out", groups=groups, batch_size=4,
        dtype="float32", device="cpu", save_steps=100, log_steps=1, report_to=[],
    )  # fmt: skip


def learning(run: StageRun) -> set[str]:
    return {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}


def test_the_loss_is_over_the_answer_and_its_end_alone(mllm: Mllm, conversations: list[Conversation]) -> None:
    batch = AnswerCollator(mllm, {})(conversations)
    for row, conversation in enumerate(conversations):
        ids, labels = batch["input_ids"][row], batch["labels"][row]
        # A byte is a token here; in the layout that puts a space in front of an answer, the space is to be said too.
        said = mllm.template.answer_start + conversation.answer
        assert int((labels != IGNORED).sum()) == len(said) + 1
        assert mllm.tokenizer.decode(labels[labels != IGNORED]) == said + "<|im_end|>"
        length = int(batch["attention_mask"][row].sum())
        first = length - len(said) - 1
        assert torch.equal(labels[first:length], ids[first:length])
        assert bool((labels[:first] == IGNORED).all()) and bool((labels[length:] == IGNORED).all())
        assert bool((ids[length:] == mllm.tokenizer.pad_token_id).all())
        assert torch.equal(batch["weights"][row], (labels != IGNORED).float())


def test_ids_are_those_of_the_whole_conversation(mllm: Mllm, conversations: list[Conversation]) -> None:
    batch = AnswerCollator(mllm, {})(conversations)
    for row, (conversation, image) in enumerate(zip(conversations, pictures(), strict=False)):
        asked = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": QUESTION}]}
        answered = {"role": "assistant", "content": [{"type": "text", "text": conversation.answer}]}
        whole = mllm.processor.apply_chat_template(
            [asked, answered], tokenize=True, return_dict=True, return_tensors="pt"
        )["input_ids"][0]
        ours = batch["input_ids"][row][batch["attention_mask"][row].bool()]
        assert torch.equal(ours, whole[: len(ours)])


def test_slots_weigh_the_tokens_that_they_find(mllm: Mllm, conversations: list[Conversation]) -> None:
    batch = AnswerCollator(mllm, {r"result: (\w+)": 5.0, r"^(\w+)": 2.0})(conversations)
    for weight, said in ((5.0, ["", "", "real", ""]), (2.0, ["Signs", "No", "Forgery", "Signs"])):
        weighed = [ids[weights == weight] for ids, weights in zip(batch["input_ids"], batch["weights"], strict=True)]
        assert [mllm.tokenizer.decode(ids) for ids in weighed] == said


def test_a_batch_has_the_losses_of_its_samples(
    mllm: Mllm, adapted: AnswerModel, conversations: list[Conversation]
) -> None:
    collate = AnswerCollator(mllm, {})

    def loss(rows: list[Conversation]) -> tuple[float, int]:
        batch = collate(rows)
        with torch.no_grad():
            found = adapted(**batch).loss
        assert found is not None
        return float(found), int((batch["labels"] != IGNORED).sum())

    together, count = loss(conversations)
    alone = [loss([one]) for one in conversations]
    assert count == sum(tokens for _, tokens in alone)
    assert together == pytest.approx(sum(one * tokens for one, tokens in alone) / count, abs=1e-5)
    assert len({round(one, 3) for one, _ in alone}) == len(alone)


def test_it_is_transformers_own_loss(mllm: Mllm, adapted: AnswerModel, conversations: list[Conversation]) -> None:
    batch = AnswerCollator(mllm, {})(conversations)
    base = adapted.model.get_base_model()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    with torch.no_grad():
        theirs = base(**inputs, **batch["pictures"]).loss
        ours = adapted(**batch).loss
    assert ours is not None and float(ours) == pytest.approx(float(theirs), abs=1e-5)


def test_adapters_are_on_the_language_model_alone_and_the_projector_learns_whole(config: StageConfig) -> None:
    run = find_stage("ffaa", "mllm").prepare(config)
    refuse_adapted_towers(run.model)
    base: Any = run.model.model.get_base_model()
    parts = parts_of(base)
    names = learning(run)
    projector = {name for name in names if f".{parts.projector}.modules_to_save." in name}
    lora = {name for name in names if f".{parts.language}.layers." in name and ".lora_" in name}
    assert projector and lora and projector | lora == names
    assert len(lora) == 2 * 7 * 2  # layers, linear layers of each, A and B
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    StageTrainer(run, replace(config, max_steps=3), training_arguments(replace(config, max_steps=3))).train()
    changed = {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed <= names and len(changed) > 0.9 * len(names)
    assert all(any(name in changed for name in part) for part in (projector, lora))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_door_trains_and_what_it_saves_answers(
    dtype: str,
    config: StageConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From one YAML a model to answers: ``train.py``, ``assemble_checkpoint.py``, ``inference.py``."""
    stage = {
        "model": config.model, "stage": "mllm", "data": str(config.data), "validation": str(config.data),
        "output": str(config.output), "groups": [{"pattern": one.pattern, "lr": one.lr} for one in config.groups],
        "batch_size": 4, "max_steps": 16 if dtype == "float32" else 4, "dtype": dtype, "device": "cpu", "log_steps": 1,
        "sample_steps": 4, "gradient_checkpointing": dtype == "bfloat16", "report_to": [],
    }  # fmt: skip
    (tmp_path / "mllm.yaml").write_text(yaml.safe_dump(stage))
    monkeypatch.setattr("sys.argv", ["train.py", "--config", str(tmp_path / "mllm.yaml")])
    assert door.main() == 0
    log = json.loads((config.output / "manifest.json").read_text())["log"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < (0.8 if dtype == "float32" else 0.97) * losses[0]
    assert (config.output / "samples" / "step-4.txt").is_file()
    assert load_file(config.output / "mllm" / "adapter_model.safetensors")
    if dtype == "bfloat16":
        return
    alone, whole = tmp_path / "alone", tmp_path / "checkpoint"
    alone.mkdir()
    mllm = read_yaml(Path(config.model) / "model.yaml")["mllm"]
    (alone / "model.yaml").write_text(yaml.safe_dump({"mllm": mllm, "max_new_tokens": 64}))
    named = ["--method", "llava", "--model", str(alone)]
    monkeypatch.setattr("sys.argv", ["assemble.py", *named, "--mllm", str(config.output), "--out", str(whole)])
    assert assemble_checkpoint.main() == 0
    asked = [str(config.data / "imgs"), *named, "--checkpoint", str(whole), "--device", "cpu", "--dtype", "float32"]
    answers = []
    for batch_size in ("8", "1"):
        capsys.readouterr()
        monkeypatch.setattr(
            "sys.argv",
            ["inference.py", *asked, "--crop", "0", "--json", "--question", QUESTION, "--batch_size", batch_size],
        )
        assert inference.main() == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        answers.append([line["answers"][0]["text"] for line in lines])
    assert len(answers[0]) == 8 and answers[0] == answers[1]


def test_merged_it_computes_what_was_trained(config: StageConfig, conversations: list[Conversation]) -> None:
    run = find_stage("ffaa", "mllm").prepare(replace(config, max_steps=3))
    StageTrainer(run, replace(config, max_steps=3), training_arguments(replace(config, max_steps=3))).train()
    run.save(config.output)
    loaded = load_mllm(load_yaml(Path(config.model) / "model.yaml", FfaaConfig).mllm, config.output)
    batch = run.collate(list(conversations))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")} | dict(batch["pictures"])
    run.model.eval()
    with torch.no_grad():
        trained, merged = (one(**inputs).logits for one in (run.model.model.get_base_model(), loaded.model))
    seen = batch["attention_mask"].bool()
    # Saved in bfloat16: two of the answer's likeliest tokens in a hundred may change places.
    same = (trained[seen].argmax(-1) == merged[seen].argmax(-1)).float().mean()
    assert float(same) > 0.9
    texts = TransformersEngine(loaded, GenerationSettings(max_new_tokens=8)).ask(pictures()[:2], [[QUESTION]] * 2)
    assert len(texts) == 2


def test_what_a_layout_cannot_is_refused(config: StageConfig, tmp_path: Path) -> None:
    stage = find_stage("ffaa", "mllm")
    if "vision" in read_yaml(Path(config.model) / "model.yaml")["mllm"]:
        assert make_plan(stage, config).samples == 8
        return
    with pytest.raises(InputError, match="option mixstyle is for models that see a picture in one view"):
        stage.prepare(replace(config, options={"mixstyle": 0.5}))
    with pytest.raises(InputError, match="feature_cache is for models that see a picture in one view"):
        stage.prepare(replace(config, feature_cache=tmp_path / "cache"))
    with pytest.raises(InputError, match="only models of type llava are planned"):
        make_plan(stage, config)


def test_a_model_of_unknown_parts_is_named() -> None:
    odd: Any = torch.nn.ModuleDict({"eyes": torch.nn.Linear(1, 1), "mouth": torch.nn.Linear(1, 1)})
    odd.config = type("Config", (), {"model_type": "cyclops"})
    with pytest.raises(InputError, match="language model and which its projector: it holds eyes, mouth"):
        parts_of(odd)


def test_rank_and_scale_are_the_model_s(mllm: Mllm) -> None:
    assert mllm.config.lora == LoraSettings(r=4, alpha=8, dropout=0.0)
