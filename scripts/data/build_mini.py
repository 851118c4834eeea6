"""Build what FFAA-mini is trained on: pictures by configs/forge/mini.yaml, then the records of stage 1.

Pictures are made once, and a set of another recipe is refused; the records (questions and answers) are written anew at
every call, from the pictures' facts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ffaa.config import CONFIGS, Switch, load_yaml, parse
from ffaa.data.records import check_name, write_records
from ffaa.forge.conversations import ConversationSettings, write_conversations
from ffaa.forge.dataset import PICTURES, RECIPE, RecipeBook, is_of_recipe, read_pictures, recipe_text, write_pictures
from ffaa.forge.explain import Wording
from ffaa.forge.recipe import make_pictures
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, run_door
from ffaa.types import InputError


@dataclass(frozen=True)
class Options:
    recipes: Path = CONFIGS / "forge" / "mini.yaml"
    """Recipes of the pictures."""
    wording: Path = CONFIGS / "forge" / "wording.yaml"
    """Terciles and probabilities, measured by scripts/data/measure_wording.py."""
    out: Path = PROJECT_ROOT / "data" / "mini"
    """Folder to build in."""
    pictures_only: Switch = False
    """Make the pictures, write no records."""
    records: str = "records.jsonl"
    """File of the records in each set; another name, records-<any>.jsonl, keeps other questions beside the first."""
    hypothesis_share: float = 0.4
    """Share of records that ask with a hypothesis."""
    wrong_share: float = 0.22
    """Share of those whose hypothesis is wrong; the answer stays truthful."""
    seed: int = 0
    """Seed of the questions."""
    workers: int = 2
    """Processes."""


def main() -> int:
    options = parse(Options, prog="build_mini.py", description=__doc__ or "")
    check_name(options.records, "records")
    # Before the pictures, which take minutes.
    settings = ConversationSettings(options.hypothesis_share, options.wrong_share, options.seed)
    wording = None if options.pictures_only else load_yaml(options.wording, Wording)
    splits = load_yaml(options.recipes, RecipeBook).splits
    for name, split in splits.items():
        folder = options.out / name
        if (folder / PICTURES).is_file() and not (folder / RECIPE).is_file():
            print(f"{name}: does not say by which recipe it was made, and is taken as it is")
        elif (folder / PICTURES).is_file() and not is_of_recipe(folder, split):
            raise InputError(
                f"{folder} was made by another recipe than {options.recipes} has now: remove it, or give --out"
            )
    for name, split in splits.items():
        folder = options.out / name
        begun = time.time()
        if not (folder / PICTURES).is_file():
            with tqdm(total=sum(split.recipe.counts.values()), desc=name, unit="picture") as bar:
                pictures = make_pictures(split.recipe, workers=options.workers)
                write_pictures(pictures, folder, recipe=recipe_text(split), on_each=bar.update)
        if wording is not None:
            records = write_conversations(read_pictures(folder), wording, settings)
            write_records(folder / options.records, records)
        print(f"{name}: {len(read_pictures(folder))} pictures -> {folder} ({time.time() - begun:.0f} s)")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
