"""What would be shared, and what is refused before anything leaves the machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from huggingface_hub.errors import LocalTokenNotFoundError

from ffaa.runtime import PROJECT_ROOT, sha256_file
from ffaa.types import InputError
from scripts import push_to_hub

MINI = PROJECT_ROOT / "playground/mini"


def run(monkeypatch: pytest.MonkeyPatch, **flags: object) -> int:
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    monkeypatch.setattr(sys, "argv", ["push_to_hub.py", *arguments])
    return push_to_hub.main()


def test_a_dry_run_writes_the_very_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.md"
    figures.write_text("| set | ACC |\n|---|---|\n| dfd | 82.7 |\n")
    out = tmp_path / "out"
    flags = {"keep_card": 0, "licence": "other", "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct"}
    assert run(monkeypatch, repo_id="me/ffaa-mini", folder=MINI, dry_run=1, out=out, figures=figures, **flags) == 0
    assert "nothing was" in capsys.readouterr().out
    names = {path.relative_to(MINI) for path in MINI.rglob("*") if path.is_file()}
    assert {path.relative_to(out) for path in out.rglob("*") if path.is_file()} == names
    assert all(sha256_file(MINI / name) == sha256_file(out / name) for name in names if name.name != "README.md")
    card = (out / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "other" and head["base_model"] == flags["base_model"]
    assert head["pipeline_tag"] == "image-text-to-text"
    assert card.count("\n# ffaa-mini\n") == 1
    assert "python inference.py PICTURE --model mini --checkpoint FOLDER" in card
    assert "| dfd | 82.7 |" in card and "must not be used for" in card
    assert sha256_file(MINI / "mids/model.safetensors") in card
    assert "`padding_mask: true`" in card and "`channel_order: rgb`" in card
    assert "{{" not in card and "{%" not in card and str(tmp_path) not in card


def test_the_folder_s_own_card_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, repo_id="me/x", folder=MINI, dry_run=1, out=tmp_path / "out")
    assert (tmp_path / "out/README.md").read_bytes() == (MINI / "README.md").read_bytes()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llava"}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_plain_folder_says_how_transformers_loads_it(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, repo_id="me/x", folder=plain, dry_run=1, out=tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert 'AutoModelForImageTextToText.from_pretrained("me/x")' in card and "Measured" not in card
    assert "license" not in yaml.safe_load(card.split("---")[1])


def test_what_is_refused(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    (tmp_path / "empty").mkdir()
    for flags, said in (
        ({"folder": plain}, r"the network is off \(HF_HUB_OFFLINE\); --dry_run 1 --out DIR"),
        ({"folder": tmp_path / "none"}, "no such folder"),
        ({"folder": tmp_path / "empty"}, r"holds no weights"),
        ({"folder": plain, "dry_run": 1, "out": tmp_path / "full"}, "is there already and not an empty folder"),
        ({"folder": plain, "figures": tmp_path / "none.md"}, "no such file"),
    ):
        with pytest.raises(InputError, match=said):
            run(monkeypatch, repo_id="me/x", **flags)
    with pytest.raises(InputError, match="lies in .*plain, and would be shared"):
        run(monkeypatch, repo_id="me/x", folder=plain, dry_run=1, out=plain / "out")
    for name, start in (
        ("mids.pth", b"PK\x03\x04"),
        ("x.pickle", b"(dp0"),
        ("w.ckpt", b"x"),
        ("innocent", b"\x80\x04\x95"),
    ):
        (plain / name).write_bytes(start)
        with pytest.raises(InputError, match=rf"holds pickles \({name}\)"):
            run(monkeypatch, repo_id="me/x", folder=plain)
        (plain / name).unlink()
    wrong: list[dict[str, object]] = [{"repo_id": "x"}, {"repo_id": "me/x", "dry_run": 1}]
    for usage in [*wrong, {"repo_id": "me/x", "out": tmp_path / "o"}]:
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, **usage)
        assert ended.value.code == 2


class _Hub:
    """Stands in for the hub's client."""

    sent: list[tuple[str, Any]] = []
    error: Exception | None = None

    def create_repo(self, repo_id: str, **_: Any) -> None:
        if self.error is not None:
            raise self.error

    def create_commit(self, repo_id: str, operations: list[Any], commit_message: str) -> Any:
        self.sent += [(one.path_in_repo, one.path_or_fileobj) for one in operations]
        return type("Sent", (), {"commit_url": f"https://example.org/{repo_id}"})


def test_what_is_sent(plain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("HF_HUB_OFFLINE", "FFAA_OFFLINE"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(huggingface_hub, "HfApi", _Hub)
    monkeypatch.setattr(_Hub, "sent", [])
    (plain / "sub" / "__pycache__").mkdir(parents=True)
    for name in (".env", "sub/__pycache__/a.py", "b.partial"):
        (plain / name).write_text("secret")
    assert run(monkeypatch, repo_id="me/x", folder=plain) == 0
    assert "https://example.org/me/x" in capsys.readouterr().out
    sent = dict(_Hub.sent)
    assert sent.keys() == {"README.md", "config.json", "model.safetensors"} and b"# x" in sent["README.md"]
    assert sent["model.safetensors"] == str(plain / "model.safetensors")
    for error, said in (
        (LocalTokenNotFoundError("x"), "nobody is logged in"),
        (OSError("gone"), "could not send to me"),
        (ConnectionResetError(104, "reset by peer"), "could not send to me"),
    ):
        monkeypatch.setattr(_Hub, "error", error)
        with pytest.raises(InputError, match=said):
            run(monkeypatch, repo_id="me/x", folder=plain)
