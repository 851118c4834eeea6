"""The cache of frozen towers' outputs: whole or absent, within its limit, for several processes."""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ffaa.backbones.feature_cache import FeatureCache, tower_identity
from ffaa.backbones.vision import load_vision_tower

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
IDENTITY = "f" * 64


def opened(folder: Path, limit: int = 10**6) -> FeatureCache:
    return FeatureCache(folder / "cache", limit, IDENTITY)


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "cache").rglob("*.safetensors"))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in entries(folder))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_put_comes_back_to_the_last_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    cache, features = opened(tmp_path), torch.randn(5, 8).to(dtype)
    assert cache.get(cache.key(b"a")) is None
    assert cache.put(cache.key(b"a"), features)
    found = opened(tmp_path).get(cache.key(b"a"))
    assert found is not None and found.dtype == dtype and torch.equal(found, features)
    assert cache.get(cache.key(b"b")) is None


def test_a_picture_is_known_by_its_bytes(tmp_path: Path) -> None:
    for name, content in (("a.png", b"one"), ("b.png", b"one"), ("c.png", b"two")):
        (tmp_path / name).write_bytes(content)
    cache = opened(tmp_path)
    first, same, other = (cache.picture_key(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert first == same != other
    assert FeatureCache(tmp_path / "cache", 10**6, "e" * 64).picture_key(tmp_path / "a.png") != first


def test_a_tower_is_known_by_weights_precision_and_settings() -> None:
    def identity(seed: int = 0, dtype: torch.dtype = torch.float32, **settings: Any) -> str:
        return tower_identity({"vision": load_vision_tower(TINY, 32, seed).to(dtype)}, **settings)

    assert identity(layers=[1]) == identity(layers=[1])
    other = [identity(layers=[0]), identity(1, layers=[1]), identity(dtype=torch.bfloat16, layers=[1])]
    assert len({identity(layers=[1]), *other}) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "bit"])
def test_a_damaged_entry_is_not_read_and_is_made_anew(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, features = opened(tmp_path), torch.randn(50, 8)
    key = cache.key(b"a")
    cache.put(key, features)
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    torn = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "zeros": whole[:-400] + bytes(400),  # as a machine that lost power leaves it
        "bit": whole[:-1] + bytes([whole[-1] ^ 1]),
    }
    path.write_bytes(torn[damage])
    with caplog.at_level(logging.WARNING):
        assert cache.get(key) is None
    assert "is damaged" in caplog.text
    assert opened(tmp_path).put(key, features)
    assert path.read_bytes() == whole


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.put(cache.key(b"a"), torch.ones(3))
    left = entries(tmp_path)[0].with_suffix(".partial")
    left.write_bytes(b"half")
    again = opened(tmp_path)
    assert not left.exists() and again.get(cache.key(b"a")) is not None


def test_the_limit_holds_over_caches_of_one_folder_and_over_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = opened(tmp_path)
    first.put(first.key(b"a"), torch.randn(100))
    limit = 3 * size(tmp_path) + 10
    one, two = (FeatureCache(tmp_path / "cache", limit, letter * 64) for letter in "ab")
    with caplog.at_level(logging.WARNING):
        kept = [cache.put(cache.key(bytes([i])), torch.randn(100)) for i in range(3) for cache in (one, two)]
    assert kept == [True, True, False, False, False, False]
    assert len(entries(tmp_path)) == 3 and size(tmp_path) <= limit
    assert "takes no more" in caplog.text
    assert not FeatureCache(tmp_path / "cache", limit, "c" * 64).put("c" * 64, torch.randn(100))
    assert one.get(one.key(bytes([0]))) is not None


def test_a_disk_that_takes_no_more_stops_the_cache_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = opened(tmp_path)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.WARNING):
        assert not cache.put(cache.key(b"a"), torch.ones(3))
    assert "No space left on device" in caplog.text and cache.get(cache.key(b"a")) is None


def fill(folder: Path, failed: Any) -> None:
    cache = FeatureCache(folder, 10**6, IDENTITY)
    for index in range(60):
        key, features = cache.key(bytes([index])), torch.full((40,), float(index))
        found = cache.get(key)
        if found is not None and not torch.equal(found, features):
            failed.set()
        cache.put(key, features)


def test_processes_that_fill_one_cache_do_no_harm(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    failed = context.Event()
    processes = [context.Process(target=fill, args=(tmp_path / "cache", failed)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0] and not failed.is_set()
    assert len(entries(tmp_path)) == 60
    assert int((tmp_path / "cache" / ".used").read_text()) == size(tmp_path)
    cache = opened(tmp_path)
    assert all(torch.equal(known(cache, i), torch.full((40,), float(i))) for i in range(60))


def known(cache: FeatureCache, index: int) -> Tensor:
    found = cache.get(cache.key(bytes([index])))
    assert found is not None
    return found


def test_a_batch_is_completed_in_order_and_computed_where_it_is_not_known(tmp_path: Path) -> None:
    cache, ran = opened(tmp_path), []
    tower = nn.Linear(3, 2)

    def compute(inputs: Tensor) -> Tensor:
        ran.append(len(inputs))
        return torch.as_tensor(tower(inputs))

    inputs = torch.randn(4, 3)
    keys = [cache.key(row.numpy().tobytes()) for row in inputs]
    for asked in ([1, 3], [0, 1, 2, 3], [2, 0]):
        lookup = cache.look_up([keys[i] for i in asked])
        unknown = inputs[[asked[i] for i in lookup["others"].tolist()]]
        found = cache.complete(lookup, (unknown,), tower, compute)
        torch.testing.assert_close(found, tower(inputs[asked]), rtol=0, atol=1e-6)
        assert not found.requires_grad
    assert ran == [2, 2]


def test_features_of_unlike_lengths_are_padded(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    lookup = cache.look_up(["a" * 64, "b" * 64], 5)
    new = torch.randn(2, 5, 3)
    cache.complete(lookup, (torch.zeros(2, 1),), nn.Identity(), lambda _: new, [2, 4])
    padded = cache.look_up(["b" * 64, "a" * 64], 6)["known"]
    assert padded.shape == (2, 6, 3)
    assert torch.equal(padded[1, :2], new[0, :2]) and torch.equal(padded[0, :4], new[1, :4])
    assert not padded[1, 2:].any() and not padded[0, 4:].any()
