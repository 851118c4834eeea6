"""What the page's gallery shows and filters by, as one compact JSON object that its script reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffaa.reporting.report_run import Line, Run, by_benchmark
from ffaa.reporting.thumbnails import Source, Thumbnails, heat_maps_of, mask_of, picture_of
from ffaa.types import Hypothesis, Verdict

ANSWERS_DIFFER, FOLLOWS, AGAINST_MAJORITY, SCORE_AGAINST, RUNS_DIFFER = range(5)
"""Kinds of disagreement, indices of `DISAGREEMENTS`."""

DISAGREEMENTS = (
    "answers differ",
    "answers follow the hypothesis",
    "choice against the majority",
    "score against the verdict",
    "runs differ",
)


@dataclass(frozen=True)
class Places:
    """Where pictures are.

    ``benchmarks`` maps a benchmark's name to its folder, None where there is none; ``heat_maps`` are the folders of
    heat maps, one a run, which need not exist; ``changed`` are the benchmarks whose folder does not hold just the
    pictures that were scored.
    """

    benchmarks: Mapping[str, Path | None]
    heat_maps: Sequence[Path]
    changed: Collection[str] = ()


@dataclass(frozen=True)
class Shown:
    """The files behind one picture of one run."""

    picture: Source | None
    mask: Source | None
    heat_maps: tuple[Source, ...] = ()

    def sources(self) -> Iterator[Source]:
        """All that are there."""
        yield from (one for one in (self.picture, self.mask, *self.heat_maps) if one is not None)


Files = Sequence[Mapping[str, Shown]]
"""One mapping a run: picture id -> files."""


def find_files(runs: Sequence[Run], places: Places) -> Files:
    """Picture, mask and heat maps of every line of every run, as far as they exist.

    Heat maps are named by a picture's stem alone: where several pictures of a run share one, none of them gets any.
    """
    known: dict[tuple[str, str], Shown] = {}
    found = []
    for run, heat in zip(runs, places.heat_maps, strict=True):
        folder, has_heat, files = places.benchmarks.get(run.benchmark), heat.is_dir(), {}
        stems = Counter(Path(line["id"]).stem for line in run.lines)
        for line in run.lines:
            key = run.benchmark, line["id"]
            if key not in known:
                known[key] = (
                    Shown(None, None)
                    if folder is None
                    else Shown(picture_of(folder, line["id"]), mask_of(folder, line["id"]))
                )
            has_own = has_heat and stems[Path(line["id"]).stem] == 1
            maps = tuple(heat_maps_of(heat, line["id"])) if has_own else ()
            files[line["id"]] = Shown(known[key].picture, known[key].mask, maps)
        found.append(files)
    return found


class _Strings:
    """Texts by number, each once: answers repeat themselves."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def number(self, text: str | None) -> int:
        """-1 for no text."""
        return -1 if text is None else self.texts.setdefault(text, len(self.texts))


def payload(runs: Sequence[Run], labels: Sequence[str], files: Files, thumbnails: Thumbnails) -> dict[str, Any]:
    """The gallery's data.

    Returns:
        ``strings``; ``disagreements``; ``runs``, each with ``label``, ``benchmark`` and ``rows``; and ``places``, key
        -> path, where thumbnails are files. A row is a list in the order of `_row`.
    """
    strings = _Strings()
    differing = runs_differ(runs)
    return {
        "runs": [
            {
                "label": label,
                "benchmark": run.benchmark,
                "rows": [
                    _row(line, found[line["id"]], thumbnails, strings, line["id"] in differing[run.benchmark])
                    for line in run.lines
                ],
            }
            for run, label, found in zip(runs, labels, files, strict=True)
        ],
        "disagreements": list(DISAGREEMENTS),
        "places": {} if any(place.startswith("data:") for place in thumbnails.places.values()) else thumbnails.places,
        "strings": list(strings.texts),
    }


def runs_differ(runs: Sequence[Run]) -> dict[str, set[str]]:
    """For each benchmark the pictures to which its runs give different verdicts."""
    found = {}
    for benchmark, indices in by_benchmark(runs).items():
        said: dict[str, set[str]] = {}
        for index in indices:
            for line in runs[index].done:
                said.setdefault(line["id"], set()).add(line["verdict"])
        found[benchmark] = {name for name, verdicts in said.items() if len(verdicts) > 1}
    return found


def disagreements(line: Line, *, differing: bool) -> list[int]:
    """Which kinds of disagreement an analysed picture shows."""
    answers = line["answers"]
    said = [answer["verdict"] for answer in answers]
    presumed = [a for a in answers if a["hypothesis"] != Hypothesis.NONE and a["verdict"] != Verdict.UNPARSED]
    probability = line.get("probability")
    score = line["score"] if probability is None else probability
    fake, real = said.count(Verdict.FAKE), said.count(Verdict.REAL)
    holds = {
        ANSWERS_DIFFER: len(set(said)) > 1,
        FOLLOWS: len(presumed) > 1 and all(a["verdict"] == a["hypothesis"] for a in presumed),
        AGAINST_MAJORITY: fake != real and line["verdict"] != (Verdict.FAKE if fake > real else Verdict.REAL),
        SCORE_AGAINST: line["verdict"] != Verdict.UNPARSED and (score > 0.5) != (line["verdict"] == Verdict.FAKE),
        RUNS_DIFFER: differing,
    }
    return [kind for kind, true in holds.items() if true]


def _row(line: Line, shown: Shown, thumbnails: Thumbnails, strings: _Strings, differing: bool) -> list[Any]:
    """One picture: id, label, type, picture, mask, heat maps, and what was found or why nothing was."""
    head = [
        line["id"],
        line["label"],
        strings.number(line.get("forgery_type") or None),
        thumbnails.key(shown.picture),
        thumbnails.key(shown.mask),
        [key for source in shown.heat_maps if (key := thumbnails.key(source))],
    ]
    if line["status"] != "ok":
        return [*head, strings.number(str(line.get("error") or "failed"))]
    return [
        *head,
        line["verdict"],
        _short(line["score"]),
        _short(line.get("probability")),
        line.get("uncertain"),
        line["chosen"],
        line["difficulty"],
        disagreements(line, differing=differing),
        [
            [
                answer["hypothesis"],
                answer["verdict"],
                strings.number(answer.get("question")),
                strings.number(answer.get("text")),
                _short(match),
                _short(answer["score"]),
                answer["finished"],
            ]
            for answer, match in zip(line["answers"], _match_scores(line), strict=True)
        ],
    ]


def _match_scores(line: Line) -> Sequence[float | None]:
    scores = line.get("match_scores")
    usable = isinstance(scores, list) and len(scores) == len(line["answers"])
    return scores if usable and scores is not None else [None] * len(line["answers"])


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
