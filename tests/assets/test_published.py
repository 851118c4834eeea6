"""Published models come from the hub by name; what to do with them is said, and what lacks is said before."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from ffaa.assets import published
from ffaa.assets.__main__ import main
from ffaa.backbones.identity import local_folder
from ffaa.backbones.mllm import MllmConfig, build_mllm
from ffaa.backbones.vision import resolve_source
from ffaa.config import load_yaml
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import InputError

BASE = published.LLAVA_BASE.hub_id


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What would be downloaded."""
    asked: list[tuple[str, list[str]]] = []

    def snapshot_download(hub_id: str, allow_patterns: list[str]) -> str:
        asked.append((hub_id, allow_patterns))
        return f"/cache/{hub_id}"

    for name in ("HF_HUB_OFFLINE", "FFAA_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_all_parts_are_fetched_and_what_follows_is_said(
    online: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "mistral"]) == 0
    said = capsys.readouterr().out
    assert [hub_id for hub_id, _ in online] == [
        BASE, "thu-huangzc/ffaa-mistral-7b", "openai/clip-vit-large-patch14-336", "t5-base",
    ]  # fmt: skip
    assert "*.pth" in dict(online)["thu-huangzc/ffaa-mistral-7b"]
    assert f"scripts/convert_checkpoint.py --source {BASE} --to hf --out checkpoints/llava-v1.6-mistral-7b" in said
    assert "--source thu-huangzc/ffaa-mistral-7b --out checkpoints/ffaa-mistral-7b" in said
    for _, link, place in published.BENCHMARKS:
        assert f"{link} -> {place}" in said


def test_its_places_are_those_that_the_configuration_expects() -> None:
    config = load_yaml(PROJECT_ROOT / "configs/ffaa/mistral/model.yaml", FfaaConfig)
    assert config.mllm.base == BASE and config.checkpoint == published.FFAA_WEIGHTS.place
    assert {config.mids.vision, config.mids.text} == {part.hub_id for part in published.TOWERS}


def test_without_the_network_it_says_so(monkeypatch: pytest.MonkeyPatch, online: list[tuple[str, list[str]]]) -> None:
    for arguments in (["fetch", "mistral", "--offline"],):
        with pytest.raises(InputError, match="comes from the Hugging Face hub, and the network is off"):
            main(arguments)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="the network is off"):
        main(["fetch", "mistral"])
    assert not online

    def unreachable(hub_id: str, allow_patterns: list[str]) -> str:
        raise OSError("no route\nto the hub")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(InputError, match=rf"could not get {BASE} from the hub \(no route\)"):
        main(["fetch", "mistral"])


def test_a_misspelt_name_finds_it() -> None:
    with pytest.raises(InputError, match="did you mean mistral"):
        main(["fetch", "mistrall"])


def test_the_converted_copy_stands_in_for_the_published_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "PROJECT_ROOT", tmp_path)
    assert resolve_source(BASE) == BASE and local_folder(BASE) is None
    with pytest.raises(InputError, match="published in a layout of its own: python -m ffaa.assets fetch mistral, then"):
        build_mllm(MllmConfig(base=BASE, template="vicuna_v1"))
    folder = tmp_path / "checkpoints/llava-v1.6-mistral-7b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert resolve_source(BASE) == str(folder) and local_folder(BASE) == folder
    assert published.needs_conversion(BASE) is None
