"""Flags, YAML and switches: what a user may type, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ffaa import config
from ffaa.config import Switch, dump_yaml, load_yaml, model_folder, parse
from ffaa.types import InputError


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters."""

    r: int = 16
    """Rank."""
    train_bias: Switch = False
    """Whether biases learn."""


@dataclass(frozen=True)
class Options:
    """What the program does."""

    images: tuple[str, ...] = ()
    """Pictures or folders."""
    crop: Switch = False
    """Crop to the face."""
    eval_num: int = -1
    """Pictures to score; -1 for all."""
    learning_rate: float = 1e-4
    lora: Lora = field(default_factory=Lora)
    vision: str | Mapping[str, Any] | None = None
    parts: Mapping[str, Lora] = field(default_factory=dict)
    out: Path = Path("results")
    layers: list[Lora] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.eval_num < -1:
            raise InputError(f"eval_num must be -1 or more, not {self.eval_num}")


def read(*argv: str) -> Options:
    return parse(Options, argv, prog="eval.py", description="Scores.", positional="images")


@pytest.mark.parametrize(
    ("argv", "crop", "images"),
    [
        ((), False, ()),
        (("--crop",), True, ()),
        (("--crop", "1"), True, ()),
        (("--crop", "0"), False, ()),
        (("--crop=true",), True, ()),
        (("--crop", "False", "a.jpg"), False, ("a.jpg",)),
        (("--crop", "a.jpg", "b.jpg"), True, ("a.jpg", "b.jpg")),
        (("a.jpg", "--crop"), True, ("a.jpg",)),
        (("--crop", "--eval_num", "1", "a.jpg"), True, ("a.jpg",)),
    ],
)
def test_a_switch_takes_0_or_1_and_means_1_when_bare(
    argv: tuple[str, ...], crop: bool, images: tuple[str, ...]
) -> None:
    options = read(*argv)
    assert options.crop is crop
    assert options.images == images


def test_nested_switch_and_value() -> None:
    options = read("--lora.r", "8", "--lora.train_bias")
    assert options.lora == Lora(r=8, train_bias=True)


def test_flags_win_over_yaml_wherever_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "eval_num: 7\ncrop: 1\nlearning_rate: 1e-3\nlora: {r: 4, train_bias: 1}\nvision: {hidden_size: 8}\n"
    )
    options = read("--eval_num", "9", "--config", str(file), "a.jpg", "--lora.train_bias", "0")
    assert options == Options(
        images=("a.jpg",),
        crop=True,
        eval_num=9,
        learning_rate=1e-3,
        lora=Lora(r=4, train_bias=False),
        vision={"hidden_size": 8},
    )
    assert read(f"--config={file}").eval_num == 7


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--evl_num", "3"), "did you mean eval_num?"),
        (("--eval-num", "3"), "did you mean eval_num?"),
        (("--eval_n", "3"), "did you mean eval_num"),
        (("--lora.rr", "3"), "did you mean lora.r"),
        (("--crop=2",), "expected 0 or 1"),
        (("--eval_num", "many"), "eval_num"),
        (("--eval_num",), "expected one argument"),
        (("--eval_num", "-5"), "eval_num must be -1 or more"),
        (("--config", "absent.yaml"), "absent.yaml"),
    ],
)
def test_a_usage_error_is_one_line_and_code_2(
    argv: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read(*argv)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert said in error


def test_help_shows_the_attribute_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read("--help")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "Scores.",
        "Pictures or folders.",
        "Crop to the face.",
        "--eval_num",
        "--lora.r",
        "Rank.",
        "--crop {0,1}",
    ):
        assert part in text


def test_print_config_shows_what_would_be_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        read("--eval_num", "4", "--crop", "--print_config")
    assert ended.value.code == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(capsys.readouterr().out)
    assert load_yaml(shown, Options) == Options(eval_num=4, crop=True)


def test_yaml_round_trip(tmp_path: Path) -> None:
    options = Options(("a.jpg",), True, 3, 2e-5, Lora(2, True), {"hidden_size": 8}, {"x": Lora(1)}, Path("out/put"))
    dump_yaml(options, tmp_path / "config.yaml")
    assert load_yaml(tmp_path / "config.yaml", Options) == options


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("evalnum: 3", "unknown option 'evalnum', did you mean eval_num?"),
        ("lora: {q: 1}", "lora.q"),
        ("lora: {train_bais: 1}", "unknown option 'lora.train_bais', did you mean lora.train_bias"),
        ("lora: 3", '"lora": Expected a mapping of options. Got value: 3'),
        ("lora: null", '"lora": Expected a mapping of options. Got value: None'),
        ("lora: {r: null}", '"lora.r": Expected a value. Got value: null'),
        ("eval_num: null", '"eval_num": Expected a value. Got value: null'),
        ("eval_num: eight", '"eval_num": Expected a int. Got value: eight'),
        ("eval_num: 1.5", '"eval_num": Expected a int. Got value: 1.5'),
        ("eval_num: true", '"eval_num": Expected a int. Got value: True'),
        ("layers: {}", '"layers": Expected a list. Got value: {}'),
        ("layers: [3]", '"layers": Expected a list of mappings of options'),
        ("layers: [a]", '"layers": Expected a list of mappings of options'),
        ("layers: [{r: x}]", '"layers": "r": Expected a int. Got value: x'),
        ("layers: [{r: 1, train_bais: 1}]", "\"layers\": unknown option 'train_bais', did you mean train_bias?"),
        ("parts: {x: {q: 1}}", "q"),
        ("lora: {r: x}", "lora.r"),
        ("eval_num: -7", "eval_num must be -1 or more"),
        ("- a", "expected a mapping"),
        ("", "expected a mapping"),
        ("a: [", "not valid YAML"),
        ("\x00", "not valid YAML"),
    ],
)
def test_bad_yaml_is_refused_with_its_reason(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        load_yaml(file, Options)
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{file}: ")
    assert "\n" not in str(refused.value)


def test_absent_or_binary_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_yaml(tmp_path / "absent.yaml", Options)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="not a text file"):
        load_yaml(tmp_path / "binary.yaml", Options)


def test_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs" / "ffaa" / "mini").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    monkeypatch.setattr(config, "CONFIGS", tmp_path / "configs")
    assert model_folder("ffaa", "mini") == tmp_path / "configs" / "ffaa" / "mini"
    assert model_folder("ffaa", str(tmp_path / "own")) == tmp_path / "own"
    with pytest.raises(InputError, match="'minni'.*did you mean mini"):
        model_folder("ffaa", "minni")
    with pytest.raises(InputError, match="'zzz'.*there are mini"):
        model_folder("ffaa", "zzz")
    with pytest.raises(InputError, match="'fffa'.*did you mean ffaa"):
        model_folder("fffa", "mini")
    with pytest.raises(InputError):
        model_folder("ffaa", "own")  # a folder is found by its path, not by its name alone


def test_arguments_without_a_flag_may_stand_in_the_config_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("images: [a.jpg, b.jpg]\ncrop: true\n")
    assert read("--config", str(file)).images == ("a.jpg", "b.jpg")
    assert read("--config", str(file), "c.jpg").images == ("c.jpg",)
    file.write_text("crop: true\n")
    assert read("--config", str(file)).images == ()
