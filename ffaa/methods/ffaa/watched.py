"""What the models of both stages say of validation pictures while they are trained."""

from __future__ import annotations

from collections.abc import Sequence

from ffaa.backbones.generation import GenerationSettings, TransformersEngine
from ffaa.backbones.mllm import Mllm
from ffaa.data.formats import TrainingSet
from ffaa.data.images import inside, open_image
from ffaa.dialogue.answers import read
from ffaa.dialogue.prompts import free_question
from ffaa.methods.base import Watch
from ffaa.methods.ffaa.judging import answer_logits, judged
from ffaa.methods.ffaa.mids import Mids, MidsProcessor
from ffaa.methods.ffaa.mids_data import ANSWER_CLAIMS, PICTURE_LABELS
from ffaa.types import Analysis, Answer, Record, Verdict

UNDECIDED = 0.5


def distinct(records: Sequence[Record]) -> list[Record]:
    """The first record of each picture that is known to be real or fake."""
    first: dict[str, Record] = {}
    for record in records:
        if record.label in PICTURE_LABELS:
            first.setdefault(record.image, record)
    return list(first.values())


def watch_answers(mllm: Mllm, data: TrainingSet, max_new_tokens: int, seed: int) -> Watch:
    """Stage 1: the likeliest answer to a question that presumes nothing.

    The score is P(fake) at the first token that decides, or else at the verdict; 0.5 where the answer has neither.
    """
    engine = TransformersEngine(mllm, GenerationSettings(max_new_tokens=max_new_tokens, seed=seed))
    records = distinct(data.records)
    paths = [inside(data.root, record.image) for record in records]

    def analyze(indices: Sequence[int]) -> list[Analysis]:
        questions = [free_question(records[index].id, seed) for index in indices]
        texts = engine.ask([open_image(paths[index]) for index in indices], [[question] for question in questions])
        answers = [read(text, question=question) for (text,), question in zip(texts, questions, strict=True)]
        return [
            Analysis(answer.verdict, _score(answer), (answer,), id=records[index].id)
            for index, answer in zip(indices, answers, strict=True)
        ]

    return Watch(paths, [record.label for record in records], analyze)


def _score(answer: Answer) -> float:
    scores = (answer.opening_score, answer.score)
    return next((score for score in scores if score is not None), UNDECIDED)


def watch_choices(model: Mids, processor: MidsProcessor, data: TrainingSet) -> Watch:
    """Stage 2: which of a record's answers MIDS believes, and what follows for the picture."""
    records = distinct(data.records)
    paths = [inside(data.root, record.image) for record in records]

    def analyze(indices: Sequence[int]) -> list[Analysis]:
        rows = [[_as_answer(dict(answer)) for answer in records[index].answers] for index in indices]
        logits = answer_logits(model, processor, [open_image(paths[index]) for index in indices], rows)
        return [judged(records[index].id, row, said) for index, row, said in zip(indices, rows, logits, strict=True)]

    return Watch(paths, [record.label for record in records], analyze)


def _as_answer(answer: dict[str, object]) -> Answer:
    said = answer["result"]
    return Answer(str(answer["content"]), Verdict(str(said)) if said in ANSWER_CLAIMS else Verdict.UNPARSED)
