"""How much answers share with reference answers: ROUGE-L, CIDEr, and BLEU and METEOR by optional libraries.

Templates flatter such figures, so that each stands beside what one constant answer to every picture, and the same
answers dealt out to other pictures, would score.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

References = Sequence[Sequence[str]]
"""(n,) of one or more reference texts a picture."""
Metric = Callable[[Sequence[str], References], float | None]

_WORD = re.compile(r"[a-z0-9]+")
_SIGMA = 6.0
_ORDERS = (1, 2, 3, 4)


class MissingLibraryError(Exception):
    """An optional library, or its data, is not there; the message says what to install."""


def words_of(text: str) -> list[str]:
    """Runs of ASCII letters and digits, lower case: rouge-score's tokens without stemming."""
    return _WORD.findall(text.lower())


def rouge_l(candidates: Sequence[str], references: References) -> float | None:
    """Mean F1 of the longest common subsequence of words (Lin 2004), the best reference's of each picture.

    0 to 1; 0 of an empty text; None for no texts.
    """
    _check(candidates, references)
    scores = [
        max(_rouge_l(words_of(candidate), words_of(reference)) for reference in of)
        for candidate, of in zip(candidates, references, strict=True)
    ]
    return float(np.mean(scores)) if scores else None


def _rouge_l(candidate: Sequence[str], reference: Sequence[str]) -> float:
    if not candidate or not reference:
        return 0.0
    row = [0] * (len(reference) + 1)
    for word in candidate:
        diagonal = 0
        for at, other in enumerate(reference, start=1):
            diagonal, row[at] = row[at], diagonal + 1 if word == other else max(row[at], row[at - 1])
    return 2 * row[-1] / (len(candidate) + len(reference))


def cider(candidates: Sequence[str], references: References) -> float | None:
    """CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726, section 6): 10 times the mean cosine of n-gram weights.

    n from 1 to 4, weights by how few pictures' references have an n-gram, counts clipped to the reference's, and a
    Gaussian penalty of standard deviation 6 on the difference in length. None for fewer than two pictures, of which
    every n-gram's weight is 0.
    """
    _check(candidates, references)
    if len(candidates) < 2:
        return None
    grams = [[[_grams(words_of(text), n) for n in _ORDERS] for text in of] for of in references]
    seen = [Counter(gram for of in grams for gram in set().union(*(text[n] for text in of))) for n in range(4)]
    total = math.log(len(candidates))

    def weighted(counts: Counter[tuple[str, ...]], n: int) -> dict[tuple[str, ...], float]:
        return {gram: count * (total - math.log(max(1, seen[n][gram]))) for gram, count in counts.items()}

    scores = []
    for candidate, of in zip(candidates, grams, strict=True):
        own = [_grams(words_of(candidate), n) for n in _ORDERS]
        values = []
        for text in of:
            penalty = math.exp(-((own[0].total() - text[0].total()) ** 2) / (2 * _SIGMA**2))
            values += [_clipped_cosine(weighted(own[n], n), weighted(text[n], n)) * penalty for n in range(4)]
        scores.append(10 * float(np.mean(values)))
    return float(np.mean(scores))


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))


def _clipped_cosine(one: dict[tuple[str, ...], float], other: dict[tuple[str, ...], float]) -> float:
    product = sum(min(value, other[gram]) * other[gram] for gram, value in one.items() if gram in other)
    norms = math.sqrt(sum(value**2 for value in one.values()) * sum(value**2 for value in other.values()))
    return product / norms if norms else 0.0


def bleu(order: int) -> Metric:
    """Corpus BLEU of n-grams up to ``order`` by sacrebleu (its tokens, its exponential smoothing), 0 to 1.

    Raises:
        MissingLibraryError: from the metric, where sacrebleu is not installed.
    """

    def score(candidates: Sequence[str], references: References) -> float | None:
        _check(candidates, references)
        metrics = _library("sacrebleu.metrics", "sacrebleu")
        if not candidates:
            return None
        most = max(map(len, references))
        columns = [[of[at] if at < len(of) else None for of in references] for at in range(most)]
        return float(metrics.BLEU(max_ngram_order=order).corpus_score(list(candidates), columns).score) / 100

    return score


def meteor(candidates: Sequence[str], references: References) -> float | None:
    """Mean METEOR (Banerjee and Lavie 2005) by nltk, the best reference's of each picture; 0 to 1; None for no texts.

    Raises:
        MissingLibraryError: nltk, or WordNet, which it finds synonyms in, is not there.
    """
    _check(candidates, references)
    module = _library("nltk.translate.meteor_score", "nltk")
    try:
        scores = [
            float(module.meteor_score([words_of(text) for text in of], words_of(candidate)))
            for candidate, of in zip(candidates, references, strict=True)
        ]
    except LookupError as error:
        raise MissingLibraryError("nltk has no WordNet: python -m nltk.downloader wordnet") from error
    return float(np.mean(scores)) if scores else None


METRICS: dict[str, Metric] = {
    "rouge_l": rouge_l,
    "cider": cider,
    **{f"bleu_{order}": bleu(order) for order in _ORDERS},
    "meteor": meteor,
}


def overlap(
    candidates: Sequence[str], references: References, metrics: dict[str, Metric] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Every metric of the answers, of a constant answer, and of the answers dealt out to other pictures.

    The constant one is the answer that is given most often, the first of them.

    Returns:
        ``n``; ``scores``: metric -> ``value, constant, shuffled`` (None where undefined); ``skipped``: metric -> why.
    """
    _check(candidates, references)
    common = Counter(candidates).most_common(1)
    others = {
        "value": list(candidates),
        "constant": [common[0][0]] * len(candidates) if common else [],
        "shuffled": [candidates[at] for at in derangement(len(candidates), seed)],
    }
    scores: dict[str, dict[str, float | None]] = {}
    skipped: dict[str, str] = {}
    for name, metric in (METRICS if metrics is None else metrics).items():
        try:
            scores[name] = {way: metric(texts, references) for way, texts in others.items()}
        except MissingLibraryError as error:
            skipped[name] = str(error)
    return {"n": len(candidates), "scores": scores, "skipped": skipped}


def derangement(n: int, seed: int) -> list[int]:
    """An order of n things in which none stands at its own place, where n is above 1: each one's follower in a ring."""
    ring = np.random.default_rng(seed).permutation(n)
    order = np.empty(n, np.int64)
    order[ring] = np.roll(ring, 1)
    return [int(place) for place in order]


def _library(module: str, package: str) -> Any:
    if importlib.util.find_spec(package) is None:
        raise MissingLibraryError(f"{package} is not installed: pip install 'ffaa[metrics]'")
    return importlib.import_module(module)


def _check(candidates: Sequence[str], references: References) -> None:
    if len(candidates) != len(references) or not all(references):
        raise ValueError(f"{len(candidates)} texts need at least one reference each, got {len(references)} pictures'")
