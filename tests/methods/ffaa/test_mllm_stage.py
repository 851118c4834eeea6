"""What stage 1 trains on, at size tiny; other families are tested in ``tests/training/test_families.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ffaa.backbones.mllm import Mllm, build_mllm
from ffaa.config import CONFIGS, load_yaml
from ffaa.methods import find_stage
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.ffaa.mllm_stage import AnswerCollator, Conversation
from ffaa.methods.stage_config import StageConfig
from ffaa.types import InputError


@pytest.fixture(scope="module")
def mllm() -> Mllm:
    return build_mllm(load_yaml(CONFIGS / "ffaa" / "tiny" / "model.yaml", FfaaConfig).mllm)


def test_a_conversation_that_is_too_long_loses_the_end_of_its_answer(mllm: Mllm, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    asked = [Conversation(tmp_path / "a.png", "Real?", answer) for answer in ("yes, for all one sees", "no")]
    whole = AnswerCollator(mllm, {})(asked)
    prompt = int((whole["labels"][0] == -100).sum())
    assert prompt == len(mllm.prompt_ids(mllm.prompt("Real?")))
    cut = AnswerCollator(mllm, {}, max_tokens=prompt + 4)(asked)
    assert cut["input_ids"].shape == cut["weights"].shape == (2, prompt + 4)
    assert cut["input_ids"].tolist() == whole["input_ids"][:, : prompt + 4].tolist()
    assert mllm.tokenizer.decode(cut["labels"][0, prompt:]) == "yes,"
    assert mllm.end_token_id not in cut["labels"][0] and mllm.end_token_id in cut["labels"][1]
    with pytest.raises(InputError, match=rf"a.png: picture and question take {prompt} tokens, which leaves no room"):
        AnswerCollator(mllm, {}, max_tokens=prompt)(asked)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "many", True])
def test_a_limit_that_means_nothing_is_refused(wrong: object, tmp_path: Path) -> None:
    config = StageConfig(model="tiny", stage="mllm", data=tmp_path, options={"max_tokens": wrong})
    with pytest.raises(InputError, match="max_tokens is a number of tokens"):
        find_stage("ffaa", "mllm").prepare(config)


@pytest.mark.parametrize("name", ["mistral/mllm", "mistral/mllm_qlora", "phi/mllm"])
def test_published_conversations_are_cut_at_the_published_length(name: str) -> None:
    assert load_yaml(CONFIGS / "ffaa" / f"{name}.yaml", StageConfig).options["max_tokens"] == 2048
