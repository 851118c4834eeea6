"""Errors by age, sex and skin tone: the same decisions counted for each group of people, and against all others.

Groups come from ``--metadata`` where a benchmark has any, else from estimates: the median over the pictures of one
person (groups.json), the unforged ones where there are some. Estimates are kept in ``attributes.json`` in the result
folder; the figures go to ``subgroups.json`` beside it. Needs the benchmark's pictures, but no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ffaa.config import Switch, parse
from ffaa.data.images import open_image
from ffaa.evaluation.attributes import ATTRIBUTES, SUBGROUPS, Attributes, in_order, of_one_person, read_metadata
from ffaa.evaluation.finished import answered_lines, benchmark_of
from ffaa.metrics.detection import groups_of
from ffaa.metrics.rules import decisions_of
from ffaa.metrics.subgroups import subgroup_metrics
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, run_door, to_plain
from ffaa.types import InputError

SHOWN = {"accuracy": "ACC", "recall_real": "real", "recall_fake": "fake", "auc": "AUC"}
"""Figure -> title of its column."""
CAUTION = (
    "Estimated groups are those of a small network and of skin as photographed, not of how people see themselves. "
    "Few people make wide intervals, several comparisons make one apart from 0 by chance, and groups differ in more "
    "than their name (light, make-up, beards)."
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
    """Picture -> estimates, kept ones where they are there.

    Raises:
        InputError: a picture cannot be opened, or kept estimates are of other pictures.
    """
    kept = folder / ATTRIBUTES
    if kept.is_file() and not options.fresh:
        return _read_kept(kept, lines)
    path_of = {item.id: item.path for item in benchmark_of(folder, options.benchmark_root).items}
    if unknown := next((line["id"] for line in lines if line["id"] not in path_of), None):
        raise InputError(f"{folder} holds a picture {unknown!r} that its benchmark does not")
    from ffaa.evaluation.attribute_estimator import AttributeEstimator

    estimator = AttributeEstimator()
    found = {
        line["id"]: estimator.estimate(open_image(path_of[line["id"]]))
        for line in tqdm(lines, desc="attributes", unit="picture")
    }
    rounded = {name: {key: _rounded(value) for key, value in asdict(one).items()} for name, one in found.items()}
    atomic_write_text(kept, json.dumps(rounded, indent=1) + "\n")
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _read_kept(file: Path, lines: Sequence[Mapping[str, Any]]) -> dict[str, Attributes]:
    try:
        found = {name: Attributes(**values) for name, values in json.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read {file} ({error}); --fresh 1 makes it anew") from error
    if missing := next((line["id"] for line in lines if line["id"] not in found), None):
        raise InputError(f"{file} has no picture {missing!r}; --fresh 1 makes it anew")
    return found


def by_person(
    lines: Sequence[Mapping[str, Any]], people: Sequence[str], known: Mapping[str, Attributes]
) -> dict[str, dict[str, str]]:
    """Picture -> attribute -> group, the same for all pictures of a person."""
    pictures: dict[str, list[Mapping[str, Any]]] = {}
    for line, person in zip(lines, people, strict=True):
        pictures.setdefault(person, []).append(line)
    found = {}
    for own in pictures.values():
        # A forgery may have changed what is estimated.
        trusted = [line for line in own if line["label"] == "real"] or own
        groups = of_one_person(known[line["id"]] for line in trusted).groups()
        found.update({line["id"]: groups for line in own})
    return found


def percent(value: float | None, interval: Sequence[float] | None, *, form: str = "{:.1f}") -> str:
    """A share in %, with its interval where there is one."""
    if value is None:
        return "-"
    bounds = "" if interval is None else f" [{', '.join(form.format(100 * bound) for bound in interval)}]"
    return form.format(100 * value) + bounds


def show(attribute: str, figures: Mapping[str, Mapping[str, Any]]) -> None:
    """One attribute's groups as a Markdown table, in %."""
    columns = [
        attribute,
        "people",
        "real / fake",
        *SHOWN.values(),
        *(f"{title} less others'" for title in SHOWN.values()),
    ]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for group, of in figures.items():
        cells = [group, str(of["n_people"]), f"{of['n_real']} / {of['n_fake']}"]
        cells += [percent(of[name], of[f"{name}_interval"]) for name in SHOWN]
        cells += [percent(*of["differences"].get(name, (None, None)), form="{:+.1f}") for name in SHOWN]
        print("| " + " | ".join(cells) + " |")
    print()


def main() -> int:
    options = parse(Options, prog="score_subgroups.py", description=__doc__ or "")
    folder = options.results
    if folder is None:
        raise InputError("no result given: --results results/<benchmark>/<run>")
    lines = answered_lines(folder)
    decisions = decisions_of(lines)
    if options.decision not in decisions:
        raise InputError(f"{folder} has no decision {options.decision!r}; it has {', '.join(decisions)}")
    people = groups_of(lines) or [line["id"] for line in lines]
    if options.metadata is None:
        groups = by_person(lines, people, estimates(folder, lines, options))
    else:
        groups = read_metadata(options.metadata, [line["id"] for line in lines])
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
        show(attribute, found[attribute])
    source = "estimated" if options.metadata is None else options.metadata.name
    facts = {
        "n": len(lines), "decision": options.decision, "source": source, "caution": CAUTION, "attributes": found,
    }  # fmt: skip
    atomic_write_text(folder / SUBGROUPS, json.dumps(to_plain(facts), indent=2) + "\n")
    print(f"{CAUTION}\n-> {folder / SUBGROUPS}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
