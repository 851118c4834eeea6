"""A checkpoint that stands there is replaced by a whole one or not at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ffaa.types import InputError
from scripts import assemble_checkpoint


@pytest.mark.parametrize("present", [(), ("mllm",), ("mllm", "mids")])
def test_what_is_missing_or_broken_leaves_the_old_checkpoint(
    present: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "out" / "mllm" / "adapter_model.safetensors"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"weights")
    for part in present:
        (tmp_path / part / part).mkdir(parents=True)
    arguments = ["--mllm", tmp_path / "mllm", "--mids", tmp_path / "mids", "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["assemble_checkpoint.py", "--model", "tiny", *map(str, arguments)])
    with pytest.raises(InputError, match="the checkpoint lacks" if len(present) == 2 else "no such folder"):
        assemble_checkpoint.main()
    assert old.read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mllm"]
