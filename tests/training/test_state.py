"""States that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from ffaa.training import state
from ffaa.types import InputError


def written(folder: Path, step: int, content: bytes = b"weights") -> Path:
    """A state as transformers leaves it, not sealed yet."""
    place = folder / state.UNFINISHED / f"{state.PREFIX}{step}"
    (place / "inner").mkdir(parents=True)
    (place / "weights").write_bytes(content)
    (place / "inner" / "part").write_bytes(content * 2)
    return place


def published(folder: Path, step: int) -> Path:
    place = folder / f"{state.PREFIX}{step}"
    unnamed = written(folder, step)
    state.seal(unnamed, {"ranks": 2})
    state.publish(unnamed, place)
    return place


def test_a_state_says_what_it_was_given_and_lists_its_files(tmp_path: Path) -> None:
    facts = state.read_state(published(tmp_path, 5))
    assert facts is not None and facts["ranks"] == 2
    assert {name: file["bytes"] for name, file in facts["files"].items()} == {"inner/part": 14, "weights": 7}


def test_what_was_not_published_is_no_state(tmp_path: Path) -> None:
    published(tmp_path, 5)
    state.seal(written(tmp_path, 6), {})
    written(tmp_path, 7)
    found = state.last_whole_state(tmp_path)
    assert found is not None and found[0].name == "checkpoint-5"


@pytest.mark.parametrize("damage", ["missing", "shorter", "changed", "unlisted"])
def test_a_damaged_state_is_passed_over(damage: str, tmp_path: Path) -> None:
    published(tmp_path, 5)
    file = published(tmp_path, 10) / "inner" / "part"
    if damage == "missing":
        file.unlink()
    elif damage == "shorter":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    else:
        (file.parent.parent / state.STATE_FILE).unlink()
    found = state.last_whole_state(tmp_path)
    assert found is not None and found[0].name == "checkpoint-5"


def test_old_states_go_once_newer_ones_are_whole(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        published(tmp_path, step)
    assert [path.name for path in state.states(tmp_path)] == ["checkpoint-100", "checkpoint-10"]


def test_states_that_were_passed_over_stand_in_for_none(tmp_path: Path) -> None:
    """Neither of two later ones that are damaged makes a whole one superfluous."""
    for step in (600, 700):
        (published(tmp_path, step) / "weights").write_bytes(b"cut")
    for step in (100, 200, 300):
        published(tmp_path, step)
        found = state.last_whole_state(tmp_path)
        assert found is not None and found[0].name == f"checkpoint-{step}"
    assert not (tmp_path / "checkpoint-100").exists() and (tmp_path / "checkpoint-200").exists()


def test_a_disk_that_loses_what_it_took_costs_no_older_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        published(tmp_path, step)
    unnamed = written(tmp_path, 3)
    state.seal(unnamed, {})
    (unnamed / "weights").write_bytes(b"garbage")
    with pytest.raises(InputError, match="reads back other than it was written"):
        state.publish(unnamed, tmp_path / "checkpoint-3")
    assert {path.name for path in state.states(tmp_path)} == {"checkpoint-1", "checkpoint-2", "checkpoint-3"}
    found = state.last_whole_state(tmp_path)
    assert found is not None and found[0].name == "checkpoint-2"


def test_a_state_that_was_cut_is_replaced_by_the_same_step_written_again(tmp_path: Path) -> None:
    (published(tmp_path, 4) / "weights").write_bytes(b"cut")
    published(tmp_path, 4)
    assert state.read_state(tmp_path / "checkpoint-4") is not None


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(27, "File too large"), True),
        (OSError(2, "No such file"), False),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_a_full_disk_is_told_from_a_bug(error: Exception, refused: bool) -> None:
    assert state.is_refused_write(error) is refused
