"""What each part of FFAA is worth: the same kept answers judged in other ways, each compared picture by picture.

The number of answers, a vote in place of MIDS, MIDS without the picture or without the text, and MIDS trained otherwise
(``--variants``: folders that scripts/train/ablate_mids.sh makes). Needs a benchmark whose answers are kept or can be
written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ffaa.config import parse
from ffaa.data.benchmark import Benchmark, load_benchmark
from ffaa.data.images import open_image
from ffaa.dialogue.answers import format_answer
from ffaa.dialogue.answers import parse as read_answer
from ffaa.evaluation.kept_figures import check_replaceable
from ffaa.metrics.detection import decision_metrics
from ffaa.metrics.intervals import Pictures, paired_auc_difference
from ffaa.metrics.rules import majority_vote
from ffaa.reporting.grids import signed, slug, with_interval
from ffaa.runtime import (
    EXIT_DONE,
    PROJECT_ROOT,
    atomic_write_text,
    dtype_name,
    pick_device,
    run_door,
    sha256_folder,
    to_plain,
)
from ffaa.types import Analysis, GeneratedText, InputError, Request, Verdict

if TYPE_CHECKING:
    from ffaa.methods.ffaa.mids import Mids

BASE = "MIDS, three answers"
AS_IS = "trained anew: as_is"
"""What variants that were trained as long are held against, where it is among them."""
GREY = (122, 116, 104)
"""CLIP's mean colour: a picture that shows nothing."""
UNSAID = "a face"
"""Description and reasoning of an answer that says nothing but its verdict."""


@dataclass(frozen=True)
class Options:
    benchmark: str = "mini_ma"
    """Name of a built benchmark, or its folder."""
    model: str = "mini"
    """Folder configs/ffaa/<model>/."""
    checkpoint: Path | None = None
    """Weights instead of those that the model's config names."""
    variants: Path | None = None
    """Folder of trained variants, each a folder with mids/ in it; none by default."""
    only: str = ""
    """Beside the first way, only those whose name holds one of these texts, separated by commas."""
    limit: int = -1
    """First pictures only; -1: all."""
    block_size: int = 32
    """Pictures answered, and judged, together."""
    seed: int = 0
    """Chooses the free questions."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16, of the language model."""
    out: Path | None = None
    """Where the figures go, with what they were made from; a file of other settings, weights or pictures is not
    replaced. By default results/ablation/<benchmark>.json, with `only` in the name where it is given."""

    def __post_init__(self) -> None:
        if self.block_size < 1 or self.limit == 0 or self.limit < -1:
            raise InputError("block_size must be at least 1, limit at least 1 or -1 for all")

    @property
    def named(self) -> list[str]:
        """The texts of ``only``."""
        return [text.strip() for text in self.only.split(",") if text.strip()]

    @property
    def file(self) -> Path:
        """Where the figures go."""
        part = f"-{slug(' '.join(self.named))}" if self.named else ""  # beside the whole table, not over it
        return self.out or PROJECT_ROOT / "results" / "ablation" / f"{Path(self.benchmark).name}{part}.json"

    def wants(self, name: str) -> bool:
        """Whether a way to decide is to be shown; all are where none is named."""
        return not self.named or any(text in name for text in self.named)


@dataclass(frozen=True)
class Decided:
    """One way to decide: a verdict and P(fake) for each picture; None where it ranks no pictures."""

    verdicts: Sequence[str]
    scores: Sequence[float] | None


@dataclass(frozen=True)
class Asked:
    """Pictures, their labels, whose they are, and what the language model answered to each of the three questions."""

    requests: Sequence[Request]
    labels: Sequence[str]
    groups: Sequence[str]
    texts: Sequence[Sequence[GeneratedText]]


def first_answers(analyses: Sequence[Analysis], count: int) -> Decided:
    """MIDS's decision had only the first ``count`` answers been written."""
    from ffaa.methods.ffaa.decision import decide

    decisions = [
        decide((one.logits or ())[:count], [answer.verdict for answer in one.answers[:count]]) for one in analyses
    ]
    return Decided([one.verdict for one in decisions], [one.score for one in decisions])


def majority(analyses: Sequence[Analysis]) -> Decided:
    """As an evaluation's majority vote; what has no answer that can be read counts as 0.5."""
    verdicts, shares = majority_vote([[answer.verdict for answer in one.answers] for one in analyses])
    return Decided(verdicts, [0.5 if share is None else share for share in shares or ()])


def best_possible(analyses: Sequence[Analysis], labels: Sequence[str]) -> Decided:
    """What a selector that is always right could reach: the truth, wherever one of the answers says it.

    It has no score: MIDS's belongs to the answer that MIDS chose.
    """
    return Decided(
        [
            label if any(answer.verdict == label for answer in one.answers) else one.verdict
            for one, label in zip(analyses, labels, strict=True)
        ],
        None,
    )


def free_answer(analyses: Sequence[Analysis]) -> Decided:
    """The language model alone: the free answer's verdict, and P(fake) at its first deciding token.

    Where no answer has such a token, P(fake) at the verdict; one that lacks it among others that do counts as 0.5.
    """
    free = [one.answers[0] for one in analyses]
    first = any(one.opening_score is not None for one in free)
    scores = [one.opening_score if first else one.score for one in free]
    return Decided([one.verdict for one in free], [0.5 if score is None else score for score in scores])


def without_picture(asked: Asked) -> Asked:
    """All pictures one colour."""
    grey = Image.new("RGB", (64, 64), GREY)
    return replace(asked, requests=[replace(request, image=grey) for request in asked.requests])


def without_text(asked: Asked) -> Asked:
    """Answers that say nothing but their verdict, which MIDS does not read where answers are masked."""
    return replace(asked, texts=[[_unsaid(text) for text in row] for row in asked.texts])


def _unsaid(text: GeneratedText) -> GeneratedText:
    verdict = read_answer(text.text).verdict
    if verdict is Verdict.UNPARSED:
        return text
    return replace(text, text=format_answer(UNSAID, UNSAID, verdict, 1.0, None))


def judged(mids: Mids, asked: Asked, block_size: int) -> list[Analysis]:
    """Kept answers judged by a MIDS."""
    from ffaa.methods.ffaa.method import Ffaa

    method = Ffaa(None, mids, fingerprint={}, written_by={})
    done: list[Analysis] = []
    for start in range(0, len(asked.requests), block_size):
        stop = start + block_size
        done += method.judge(asked.requests[start:stop], asked.texts[start:stop])
    return done


@dataclass(frozen=True)
class Variant:
    """A MIDS that was trained otherwise, and in which order of colours it is shown pictures."""

    name: str
    folder: Path
    channel_order: str

    @property
    def title(self) -> str:
        """The name of its row."""
        return f"trained anew: {self.name}"

    def load(self, device: str) -> Mids:
        """Its weights."""
        from ffaa.methods.ffaa.mids import load_mids
        from ffaa.runtime import pick_device

        mids = load_mids(self.folder / "mids", device=pick_device(device))
        mids.settings = replace(mids.settings, channel_order=self.channel_order)
        return mids


def find_variants(variants: Path | None) -> list[Variant]:
    """Those of a folder, by their configurations; one trained on BGR is also shown RGB, as published evaluations did.

    Raises:
        InputError: the folder holds none.
    """
    from ffaa.methods.ffaa.mids import read_config

    found = []
    for folder in sorted(path.parent for path in variants.glob("*/mids")) if variants else ():
        order = read_config(folder / "mids").channel_order
        found.append(Variant(folder.name, folder, order))
        if order == "bgr":
            found.append(Variant(f"{folder.name} (shown RGB)", folder, "rgb"))
    if variants and not found:
        raise InputError(f"{variants} holds no trained variant; scripts/train/ablate_mids.sh makes them")
    return found


Way = Callable[[Asked, Sequence[Analysis], "Mids", int], Decided]
"""Pictures and answers, MIDS's judgement of them, MIDS, and how many it judges together -> what is decided."""

OF_SAME_WEIGHTS: Mapping[str, Way] = {
    "MIDS, free answer and the opposite presumption": lambda asked, analyses, *_: first_answers(analyses, 2),
    "MIDS, free answer alone": lambda asked, analyses, *_: first_answers(analyses, 1),
    "no MIDS: free answer": lambda asked, analyses, *_: free_answer(analyses),
    "no MIDS: majority of three": lambda asked, analyses, *_: majority(analyses),
    "a selector that is always right": lambda asked, analyses, *_: best_possible(analyses, asked.labels),
    "MIDS without the picture": lambda asked, _, mids, n: first_answers(judged(mids, without_picture(asked), n), 3),
    "MIDS without the text": lambda asked, _, mids, n: first_answers(judged(mids, without_text(asked), n), 3),
}
"""What needs nothing but the checkpoint, by name."""


def made_from(options: Options, benchmark: Benchmark, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """All that the figures depend on; ``fingerprint`` is the checkpoint's."""
    from ffaa.evaluation.runner import data_fingerprint

    variants = {
        variant.title: {"mids": sha256_folder(variant.folder / "mids"), "channel_order": variant.channel_order}
        for variant in find_variants(options.variants)
        if options.wants(variant.title)
    }
    settings = {
        "model": options.model,
        "benchmark": benchmark.name,
        "limit": options.limit,
        "only": options.named,
        "seed": options.seed,
        # As it was chosen, not "auto": what that is depends on the machine.
        "dtype": dtype_name(options.dtype, pick_device(options.device)),
    }
    weights = {**fingerprint, **({"variants": variants} if variants else {})}
    return dict(to_plain({"settings": settings, "fingerprint": weights, "data": data_fingerprint(benchmark)}))


def ask(options: Options) -> tuple[Asked, Mids, dict[str, Any]]:
    """The benchmark's pictures with kept or new answers, the checkpoint's own MIDS, and what all is made from.

    Raises:
        InputError: the file of figures is there and made from something else, before anything is answered.
    """
    from ffaa.evaluation.cached_method import load_cached
    from ffaa.methods.ffaa.method import Ffaa

    whole = load_benchmark(options.benchmark)
    items = whole.items[: options.limit if options.limit > 0 else None]
    cached = load_cached(
        options.model, checkpoint=options.checkpoint, device=options.device, dtype=options.dtype, seed=options.seed
    )
    assert isinstance(cached.method, Ffaa) and cached.method.mids is not None
    made = made_from(options, replace(whole, items=items), cached.fingerprint)
    check_replaceable(options.file, made)
    requests = [Request(open_image(item.path), id=item.id) for item in items]
    texts: list[list[GeneratedText]] = []
    for start in tqdm(range(0, len(requests), options.block_size), desc="answers", unit="block"):
        texts += cached.answer(requests[start : start + options.block_size])
    labels, groups = [item.label for item in items], [item.group or item.id for item in items]
    return Asked(requests, labels, groups, texts), cached.method.mids, made


def ways(asked: Asked, mids: Mids, options: Options) -> Iterator[tuple[str, Decided]]:
    """Every way to decide that is wanted, the one that the others are compared with first."""
    analyses = judged(mids, asked, options.block_size)
    yield BASE, first_answers(analyses, 3)

    for name, decide in OF_SAME_WEIGHTS.items():
        if options.wants(name):
            yield name, decide(asked, analyses, mids, options.block_size)
    for variant in find_variants(options.variants):
        if options.wants(variant.title):
            judgements = judged(variant.load(options.device), asked, options.block_size)
            yield variant.title, first_answers(judgements, 3)


def check_names(options: Options) -> None:
    """Raise InputError for a text of ``only`` that no way to decide has in its name, before anything is answered."""
    names = [BASE, *OF_SAME_WEIGHTS, *(variant.title for variant in find_variants(options.variants))]
    for text in options.named:
        if not any(text in name for name in names):
            raise InputError(f"no way to decide has {text!r} in its name; there are: {'; '.join(names)}")


def row(asked: Asked, way: Decided, others: Mapping[str, Decided]) -> dict[str, Any]:
    """Figures of one way, and its AUC less that of each of some others; intervals by person or video."""
    found = decision_metrics(asked.labels, list(way.verdicts), way.scores, groups=asked.groups)
    if way.scores is None:
        return {**found, "auc_gain": {}}
    fake = np.array([label == "fake" for label in asked.labels])
    own = Pictures(fake, fake, np.array(way.scores), asked.groups)
    scores = {title: other.scores for title, other in others.items()}
    gains = {title: paired_auc_difference(own, np.array(of)) for title, of in scores.items() if of is not None}
    return {**found, "auc_gain": gains}


def shown(name: str, figures: Mapping[str, Any]) -> str:
    """A row of a Markdown table, in %."""
    cells = [with_interval(figures[key], figures[f"{key}_interval"]) for key in ("accuracy", "auc")]
    for other in (BASE, AS_IS):
        gain = figures["auc_gain"].get(other)
        cells.append("–" if gain is None else signed(*gain))
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> int:
    options = parse(Options, prog="ablate.py", description=__doc__ or "")
    check_names(options)
    asked, mids, made = ask(options)
    name = Path(options.benchmark).name
    print(f"{name}: {len(asked.labels)} pictures")
    print(f"| way to decide | ACC | AUC | AUC less {BASE} | AUC less {AS_IS} |\n|---|---|---|---|---|")
    rows: dict[str, dict[str, Any]] = {}
    others: dict[str, Decided] = {}
    for title, way in ways(asked, mids, options):
        rows[title] = row(asked, way, others)
        print(shown(title, rows[title]), flush=True)
        if title in (BASE, AS_IS):
            others[title] = way
    atomic_write_text(options.file, json.dumps({**made, "rows": to_plain(rows)}, indent=2) + "\n")
    print(f"-> {options.file}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
