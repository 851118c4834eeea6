"""A method whose language model writes only what it has not written before (``answer_cache``)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ffaa.config import model_folder
from ffaa.evaluation.answer_cache import AnswerCache, not_kept
from ffaa.methods import load_method
from ffaa.methods.base import Generates
from ffaa.types import Analysis, GeneratedText, InputError, Mode, Request


def load_cached(
    model: str, *, checkpoint: Path | None, device: str, dtype: str, seed: int = 0, calibrate: bool = True
) -> CachedMethod:
    """FFAA of a model, whose answers are looked up and kept as in an evaluation.

    Raises:
        InputError: as ``load_method``; or there is no room for answers.
    """
    method = load_method(
        "ffaa",
        model_dir=model_folder("ffaa", model),
        checkpoint=checkpoint,
        device=device,
        dtype=dtype,
        seed=seed,
        calibrate=calibrate,
    )
    assert isinstance(method, Generates)
    cache = AnswerCache(method.written_by)
    cache.check(Mode.ALL)
    return CachedMethod(method, cache)


class CachedMethod:
    """A method that writes only the answers that are not kept yet, and keeps them.

    In ``Mode.SCORE`` it writes none. In bfloat16 an answer depends a little on what was written together with it; a
    kept one is what was written first.
    """

    def __init__(self, method: Generates, cache: AnswerCache, mode: Mode = Mode.ALL) -> None:
        self.method = method
        self.cache = cache
        self.mode = mode
        self.name = method.name
        self.needs_face = method.needs_face
        self.generate_num = method.generate_num
        self.fingerprint: Mapping[str, Any] = method.fingerprint

    def analyze(self, requests: Sequence[Request]) -> list[Analysis]:
        """One analysis a request, from kept and new answers.

        Raises:
            InputError: an answer is missing and the mode is ``SCORE``, or the cache cannot be used.
        """
        return self.method.judge(requests, self.answer(requests))

    def answer(self, requests: Sequence[Request]) -> list[list[GeneratedText]]:
        """The answers to all questions of each request, written where they are missing. Raises as ``analyze`` does."""
        questions = self.method.questions(requests)
        keys = [picture_key(request.image) for request in requests]
        found = self.cache.find(keys, questions)
        missing = [index for index, row in enumerate(found) if None in row]
        if missing and self.mode is Mode.SCORE:
            raise InputError(not_kept(f" to {requests[missing[0]].id!r}"))
        if missing:
            self._write(requests, questions, keys, found, missing)
        return [[text for text in row if text is not None] for row in found]

    def _write(
        self,
        requests: Sequence[Request],
        questions: Sequence[Sequence[str]],
        keys: Sequence[str],
        found: list[list[GeneratedText | None]],
        missing: Sequence[int],
    ) -> None:
        wanted = [
            [question for question, text in zip(questions[index], found[index], strict=True) if text is None]
            for index in missing
        ]
        written = self.method.write([requests[index] for index in missing], wanted)
        for index, row in zip(missing, written, strict=True):
            new = iter(row)
            found[index] = [text or next(new) for text in found[index]]
        self.cache.keep(
            [
                (keys[index], question, text)
                for index, asked, row in zip(missing, wanted, written, strict=True)
                for question, text in zip(asked, row, strict=True)
            ]
        )


def picture_key(image: Image.Image) -> str:
    """Hex sha256 of a picture's size and pixels."""
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()
