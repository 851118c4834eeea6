"""Build benchmarks from their frozen recipes: the free family (ORL, OpenPeople) or the mini family (CelebA people)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ffaa.config import CONFIGS, Switch, load_yaml, parse
from ffaa.data.benchmark import GROUPS_FILE
from ffaa.forge.dataset import RECIPE, RecipeBook, Split, is_of_recipe, label_benchmark, recipe_text, write_pictures
from ffaa.forge.recipe import make_pictures
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, closest, run_door
from ffaa.types import InputError

FAMILIES = ("free", "mini")


@dataclass(frozen=True)
class Options:
    family: str = "free"
    """free, mini (CelebA people, research only) or all."""
    out: Path = PROJECT_ROOT / "benchmark"
    """Folder that holds benchmarks."""
    only: str = ""
    """Names to build, separated by commas; all of the family when empty."""
    fresh: Switch = False
    """Build again what is already there."""
    workers: int = 2
    """Processes."""


def build(name: str, split: Split, options: Options) -> None:
    folder = options.out / name
    if not options.fresh and is_of_recipe(folder, split):
        if not (folder / GROUPS_FILE).is_file():  # built before benchmarks named their people
            label_benchmark(folder, split)
        print(f"{name}: already built")
        return
    begun = time.time()
    total = sum(split.recipe.counts.values())
    with tqdm(total=total, desc=name, unit="picture") as bar:
        write_pictures(make_pictures(split.recipe, workers=options.workers), folder, on_each=bar.update)
    label_benchmark(folder, split)
    # Written last: a folder with its recipe is a finished benchmark.
    atomic_write_text(folder / RECIPE, recipe_text(split))
    print(f"{name}: {total} pictures in {time.time() - begun:.0f} s -> {folder}")


def main() -> int:
    options = parse(Options, prog="build_benchmarks.py", description=__doc__ or "")
    if options.family not in (*FAMILIES, "all"):
        raise InputError(f"unknown family {options.family!r}{closest(options.family, FAMILIES)}")
    families = FAMILIES if options.family == "all" else (options.family,)
    splits = {
        name: split
        for family in families
        for name, split in load_yaml(CONFIGS / "benchmarks" / f"{family}.yaml", RecipeBook).splits.items()
    }
    wanted = [name for name in options.only.split(",") if name] or list(splits)
    for name in wanted:
        if name not in splits:
            raise InputError(f"no recipe {name!r}{closest(name, list(splits))}")
    for name in wanted:
        build(name, splits[name], options)
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
