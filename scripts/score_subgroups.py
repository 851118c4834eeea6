"""Errors by age, sex and skin tone: the same decisions counted for each group of people, and against all others.

Groups come from ``--metadata`` where a benchmark has any, else from estimates. A forged picture is in the group of the
face that it shows, which after a swap is another's; an unforged one in that of the median over its person's unforged
pictures (groups.json). Estimates are kept in ``attributes.json`` in the result folder; the figures go to
``subgroups.json`` beside it. Needs the benchmark's pictures, but no model; about a tenth of a second a picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ffaa.config import Switch, parse, read_json
from ffaa.data.images import open_image
from ffaa.evaluation.attributes import ATTRIBUTES, SUBGROUPS, Attributes, in_order, of_one_person, read_metadata
from ffaa.evaluation.finished import answered_lines, benchmark_of
from ffaa.evaluation.result_folder import PREDICTIONS, read_config
from ffaa.metrics.detection import groups_of
from ffaa.metrics.rules import decisions_of
from ffaa.metrics.subgroups import subgroup_metrics
from ffaa.reporting.grids import Grid, signed, slug, with_interval
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, check_seed, run_door, sha256_file, to_plain
from ffaa.types import InputError

SHOWN = {"accuracy": "ACC", "recall_real": "real", "recall_fake": "fake", "auc": "AUC"}
"""Figure -> title of its column."""
CAUTION = (
    "Few people make wide intervals, several comparisons make one apart from 0 by chance, and groups differ in more "
    "than their name (light, make-up, beards)."
)
ESTIMATED = (
    "Estimated groups are those of a small network and of skin as photographed, not of how people see themselves. "
)


@dataclass(frozen=True)
class Options:
    results: Path | None = None
    """Result folder (results/<benchmark>/<run>)."""
    metadata: Path | None = None
    """JSON file that maps pictures to attributes, {"name.png": {"sex": "female", "age": 34}}, in place of estimates."""
    decision: str = "method"
    """Which decision is counted: one of summary.json, such as method, calibrated or free_answer."""
    fresh: Switch = False
    """Estimate anew where estimates are kept."""
    benchmark_root: Path = PROJECT_ROOT / "benchmark"
    """Folder of the benchmarks."""
    seed: int = 0
    """Of the bootstrap."""


def estimates(folder: Path, lines: Sequence[Mapping[str, Any]], options: Options) -> dict[str, Attributes]:
    """Picture -> estimates, kept ones where they are there; without the pictures that show no face.

    Raises:
        InputError: a picture cannot be opened, or kept estimates are not of these pictures.
    """
    kept, data = folder / ATTRIBUTES, read_config(folder).get("data")
    faces = _read_kept(kept, data) if kept.is_file() and not options.fresh else {}
    # Estimates may have been kept when the run had only some of its lines; `data` is of the whole either way.
    if missing := [line["id"] for line in lines if line["id"] not in faces]:
        faces |= _estimated(folder, missing, options)
        values = {name: None if one is None else asdict(one) for name, one in faces.items()}
        atomic_write_text(kept, json.dumps({"data": data, "faces": values}, indent=1) + "\n")
    return {name: one for name, one in faces.items() if one is not None}


def _estimated(folder: Path, names: Sequence[str], options: Options) -> dict[str, Attributes | None]:
    """Picture -> estimates anew, None where it shows no face."""
    path_of = {item.id: item.path for item in benchmark_of(folder, options.benchmark_root).items}
    if unknown := next((name for name in names if name not in path_of), None):
        raise InputError(f"{folder} holds a picture {unknown!r} that its benchmark does not")
    from ffaa.evaluation.attribute_estimator import AttributeEstimator

    estimator = AttributeEstimator()
    return {
        name: estimator.estimate(open_image(path_of[name])) for name in tqdm(names, desc="attributes", unit="picture")
    }


def _read_kept(file: Path, data: object) -> dict[str, Attributes | None]:
    found = read_json(file)
    if "faces" not in found or found.get("data") != data:
        raise InputError(f"{file} is not of this result's pictures; --fresh 1 makes it anew")
    try:
        return {name: None if values is None else Attributes(**values) for name, values in found["faces"].items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read {file} ({error}); --fresh 1 makes it anew") from error


def by_face(
    lines: Sequence[Mapping[str, Any]], people: Sequence[str], known: Mapping[str, Attributes]
) -> dict[str, dict[str, str]]:
    """Picture -> attribute -> group: all unforged pictures of a person are in one."""
    unforged: dict[str, list[Attributes]] = {}
    for line, person in zip(lines, people, strict=True):
        if line["label"] == "real" and line["id"] in known:
            unforged.setdefault(person, []).append(known[line["id"]])
    of_person = {person: of_one_person(own).groups() for person, own in unforged.items()}
    return {
        line["id"]: of_person[person] if line["label"] == "real" else known[line["id"]].groups()
        for line, person in zip(lines, people, strict=True)
        if line["id"] in known
    }


def table(attribute: str, figures: Mapping[str, Mapping[str, Any]]) -> Grid:
    """One attribute's groups, a row each, in %."""
    rows = []
    for group, of in figures.items():
        differences = of["differences"]
        shares = [with_interval(of[name], of[f"{name}_interval"]) for name in SHOWN]
        apart = [signed(*differences[name]) if name in differences else "–" for name in SHOWN]
        rows.append([group, str(of["n_people"]), f"{of['n_real']} / {of['n_fake']}", *shares, *apart])
    columns = [
        attribute,
        "people",
        "real / fake",
        *SHOWN.values(),
        *(f"{title} less others'" for title in SHOWN.values()),
    ]
    return Grid(slug(attribute), attribute, columns, rows)


def main() -> int:
    options = parse(Options, prog="score_subgroups.py", description=__doc__ or "")
    check_seed(options.seed)
    folder = options.results
    if folder is None:
        raise InputError("no result given: --results results/<benchmark>/<run>")
    lines = answered_lines(folder)
    decisions = decisions_of(lines)
    if options.decision not in decisions:
        raise InputError(f"{folder} has no decision {options.decision!r}; it has {', '.join(decisions)}")
    people = groups_of(lines) or [line["id"] for line in lines]
    if options.metadata is None:
        groups = by_face(lines, people, estimates(folder, lines, options))
    else:
        groups = read_metadata(options.metadata, {line["id"] for line in lines})
    labels = [line["label"] for line in lines]
    verdicts, scores = decisions[options.decision]
    attributes = sorted({name for of in groups.values() for name in of})
    if not attributes:
        raise InputError(f"no attribute is known of any picture of {folder}")
    found = {}
    for attribute in attributes:
        named = [groups.get(line["id"], {}).get(attribute) for line in lines]
        figures = subgroup_metrics(labels, verdicts, scores, people, named, seed=options.seed)
        found[attribute] = {group: figures[group] for group in in_order(figures)}
        if left_out := named.count(None):
            print(f"{attribute}: not known of {left_out} of {len(lines)} pictures, which are left out")
        print(table(attribute, found[attribute]).markdown())
    facts = {
        "predictions": sha256_file(folder / PREDICTIONS),
        "decision": options.decision,
        "source": "estimated" if options.metadata is None else options.metadata.name,
        "caution": CAUTION if options.metadata else ESTIMATED + CAUTION,
        "attributes": found,
    }
    atomic_write_text(folder / SUBGROUPS, json.dumps(to_plain(facts), indent=2) + "\n")
    print(f"{facts['caution']}\n-> {folder / SUBGROUPS}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
