"""Generation: many answers to many pictures at once, through one interface.

Each picture is encoded once, and in models of the LLaVA layout so is what all its prompts begin with, up to the picture
itself; all rows (pictures x prompts) of a call are padded on the left (there of their questions) and decoded together.
In fp32 an answer does not
depend on what else is in the batch, sampled ones included.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from PIL import Image
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from ffaa.backbones.inputs import features_of_rows, read_inputs
from ffaa.backbones.mllm import Mllm, Opening
from ffaa.dialogue.answers import RESULT
from ffaa.types import GeneratedText, InputError, Verdict

log = logging.getLogger(__name__)

_QUESTION_TOKENS = 128
"""More than the longest of the published questions takes."""
_IMAGE_TOKENS = 2048
"""More than a picture takes in most models of another layout than LLaVA's, which take as many as its size asks for."""

# What the parser of answers takes as the start of the verdict line, up to where the verdict is to come.
_BEFORE_VERDICT = re.compile(rf"(?:^|\n)[\s*_`#>+•·\-\d.()]*{RESULT}[\s*_`]*:[\s*_`\"']*$", re.IGNORECASE)


@dataclass(frozen=True)
class GenerationSettings:
    """How answers are decoded."""

    max_new_tokens: int = 512
    """Tokens after which an answer is cut."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above 0 samples."""
    seed: int = 0
    """Of sampling; each row draws from a generator of its own, made of this, the picture, the prompt and its place."""

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.temperature >= 0:
            raise InputError(f"the temperature must be 0 or more, got {self.temperature}")


class GenerationEngine(Protocol):
    """What methods need of a language model: answers to prompts about pictures."""

    def ask(self, images: Sequence[Image.Image], questions: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        """One list of answers per picture, in the order of its questions."""
        ...

    def picture_bytes(self, answers: int) -> int:
        """Roughly what so many answers to one picture take of the device's memory."""
        ...


class DecidingTokens:
    """The two tokens in which answers for real and for fake pictures first differ at one place.

    Args:
        tokenizer: of the model.
        real: the text up to and with what answers for real pictures say there; it starts a line.
        fake: the same for fake ones.
        before: what an answer looks like up to that place.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, real: str, fake: str, before: re.Pattern[str]) -> None:
        self._tokenizer = tokenizer
        self._before = before
        lines = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (real, fake)]
        # A word, or its first letter for a byte tokenizer.
        differing = next(((one, other) for one, other in zip(*lines, strict=False) if one != other), None)
        if differing is None:
            raise InputError(f"the opening of answers decides nothing: {real!r} and {fake!r} begin alike")
        self.real, self.fake = differing

    def locate(self, ids: Sequence[int]) -> int | None:
        """Index of the token in an answer's ids that decides, None where there is none."""
        for index, token in enumerate(ids):
            if token in (self.real, self.fake) and self._before.search(self._tokenizer.decode(ids[:index])):
                return index
        return None


def verdict_tokens(tokenizer: PreTrainedTokenizerBase) -> DecidingTokens:
    """Those after ``Analysis result:``."""
    real, fake = (f"{RESULT}: {verdict}" for verdict in (Verdict.REAL, Verdict.FAKE))
    return DecidingTokens(tokenizer, real, fake, _BEFORE_VERDICT)


def opening_tokens(tokenizer: PreTrainedTokenizerBase, opening: Opening) -> DecidingTokens:
    """Those that a model's configuration names.

    Raises:
        InputError: the two are no different.
    """
    real, fake = (f"{opening.before} {word}" for word in (opening.real, opening.fake))
    before = re.compile(rf"(?:^|\n){re.escape(opening.before)}\s*$")
    return DecidingTokens(tokenizer, real, fake, before)


class _Recorder(LogitsProcessor):
    """Keeps the deciding tokens' raw logits of each step, (rows, deciders, 2); changes nothing."""

    def __init__(self, deciders: Sequence[DecidingTokens]) -> None:
        self._ids = torch.tensor([[tokens.real, tokens.fake] for tokens in deciders])
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.steps.append(scores[:, self._ids.to(scores.device)].float())
        return scores


class _GumbelNoise(LogitsProcessor):
    """Sampling as argmax(logits / temperature + Gumbel noise), one generator a row: no row affects another."""

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        width = scores.shape[-1]
        noise = torch.stack([torch.empty(width).exponential_(generator=one) for one in self._generators])
        noisy = scores.float() / self._temperature - noise.log().to(scores.device)
        return noisy  # type: ignore[return-value]


def pad_left(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """(rows, longest), each row at the right."""
    longest = max(map(len, rows))
    return torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows])


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("Set TORCH")), type(error).__name__)


def _p_fake(real: float, fake: float) -> float:
    return float(torch.sigmoid(torch.tensor(fake - real)))


class TransformersEngine:
    """Local generation by transformers; the model is used as it is (its device, dtype and adapters)."""

    def __init__(self, mllm: Mllm, settings: GenerationSettings) -> None:
        self.mllm = mllm
        self.settings = settings
        opening = mllm.config.opening
        self._deciders = [verdict_tokens(mllm.tokenizer)]
        self._deciders += [opening_tokens(mllm.tokenizer, opening)] if opening else []
        self._most_rows = sys.maxsize

    def ask(self, images: Sequence[Image.Image], questions: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        """Answers to ``questions[i]`` about ``images[i]``, in blocks as large as memory holds.

        Where memory runs out, the pictures are halved until they fit, and later calls begin with as many rows as did.

        Raises:
            InputError: a question holds a control token of the model, or not even one answer fits in memory.
        """
        return self._generate_what_fits(images, [[self.mllm.prompt(question) for question in row] for row in questions])

    def picture_bytes(self, answers: int) -> int:
        """The keys and values of all tokens, the logits of a step, and the picture's way through its tower."""
        model, text = self.mllm.model, self.mllm.model.config.get_text_config()
        llava = self.mllm.one_view
        image_tokens = self.mllm.image_tokens if llava else _IMAGE_TOKENS
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        tokens = image_tokens + _QUESTION_TOKENS + self.settings.max_new_tokens
        keys_and_values = 2 * text.num_hidden_layers * heads * width * tokens * model.dtype.itemsize
        logits = 3 * text.vocab_size * torch.float32.itemsize
        once = image_tokens * 4 * text.intermediate_size * torch.float32.itemsize
        if llava:
            vision = model.config.vision_config
            states = vision.num_hidden_layers * vision.hidden_size + 4 * vision.intermediate_size
            once += (vision.image_size // vision.patch_size) ** 2 * states * torch.float32.itemsize
        return int(answers * (keys_and_values + logits) + once)

    @torch.inference_mode()
    def generate(self, images: Sequence[Image.Image], prompts: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        """Answers to ``prompts[i]`` (rendered, with one ``<image>`` each) about ``images[i]``, all decoded together.

        Raises:
            ValueError: the numbers of pictures and of prompt lists differ, or prompts differ before the picture.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} pictures but {len(prompts)} lists of prompts")
        if not any(prompts):
            return [[] for _ in images]
        recorder = _Recorder(self._deciders)
        processors = LogitsProcessorList([recorder])
        if self.settings.temperature > 0:
            processors.append(_GumbelNoise(self.settings.temperature, self._row_seeds(images, prompts)))
        inputs = self._inputs(images, prompts)
        sequences = self.mllm.model.generate(
            **inputs, generation_config=self._generation_config(), logits_processor=processors
        )
        rows = sequences[:, inputs["input_ids"].shape[1] :].tolist()
        logits = torch.stack(recorder.steps, dim=1).tolist()
        texts = iter([self._read(row, steps) for row, steps in zip(rows, logits, strict=True)])
        return [[next(texts) for _ in row] for row in prompts]

    def _generate_what_fits(
        self, images: Sequence[Image.Image], prompts: Sequence[Sequence[str]]
    ) -> list[list[GeneratedText]]:
        rows = sum(map(len, prompts))
        try:
            if rows <= self._most_rows:
                return self.generate(images, prompts)
        except (RuntimeError, MemoryError) as error:
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise InputError(f"the language model does not compile here: {_first_line(error)}") from error
            if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or should_reduce_batch_size(error)):
                raise
            if rows == 1:
                raise InputError(
                    "one answer to one picture does not fit in memory: give a lower --max_new_tokens"
                ) from error
            self._most_rows = rows // 2
            log.warning("out of memory with %d answers at once; from here on %d", rows, self._most_rows)
        # Outside of the except clause, whose traceback holds the tensors that did not fit.
        return self._generate_by_halves(images, prompts)

    def _generate_by_halves(
        self, images: Sequence[Image.Image], prompts: Sequence[Sequence[str]]
    ) -> list[list[GeneratedText]]:
        clear_device_cache(garbage_collection=True)
        if len(images) == 1:
            (row,) = prompts
            halves = (row[: len(row) // 2], row[len(row) // 2 :])
            return [[text for half in halves for text in self._generate_what_fits(images, [half])[0]]]
        half = len(images) // 2
        first = self._generate_what_fits(images[:half], prompts[:half])
        return [*first, *self._generate_what_fits(images[half:], prompts[half:])]

    def _inputs(self, images: Sequence[Image.Image], prompts: Sequence[Sequence[str]]) -> dict[str, Any]:
        if self.mllm.one_view:
            return self._prefilled(images, prompts)
        return self._encoded(images, prompts)

    def _prefilled(self, images: Sequence[Image.Image], prompts: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Ids and mask of all rows, and a cache that holds each picture's start of the prompt in all of its rows."""
        model, device = self.mllm.model, self.mllm.model.device
        asked = [index for index, row in enumerate(prompts) if row]
        owners = [place for place, index in enumerate(asked) for _ in prompts[index]]
        start, questions = self._split([self.mllm.prompt_ids(prompt) for row in prompts for prompt in row])
        pixels = self.mllm.pixel_values([images[index] for index in asked]).to(device, model.dtype)
        features = torch.stack(tuple(model.get_image_features(pixel_values=pixels).pooler_output))
        ids = torch.tensor([start] * len(asked), device=device)
        embeddings = model.get_input_embeddings()(ids)
        is_image = (ids == self.mllm.image_token_id).unsqueeze(-1)
        cache = DynamicCache(config=model.config.get_text_config())
        model.model.language_model(
            inputs_embeds=embeddings.masked_scatter(is_image, features.to(embeddings.dtype)),
            cache=cache,
            use_cache=True,
        )
        cache.batch_select_indices(torch.tensor(owners, device=device))
        rest, attention = self._pad_left(questions)
        before = torch.tensor([start] * len(owners))
        # The padding stands between the two, where the mask hides it and positions do not count it.
        return {
            "input_ids": torch.cat([before, rest], dim=1).to(device),
            "attention_mask": torch.cat([torch.ones_like(before), attention], dim=1).to(device),
            "cache": cache,
        }

    def _split(self, rows: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
        """What all rows begin with, up to the end of the picture, and what each goes on with."""
        image = self.mllm.image_token_id
        ends = [len(row) - list(reversed(row)).index(image) for row in rows]
        start = list(rows[0][: ends[0]])
        if any(list(row[:end]) != start for row, end in zip(rows, ends, strict=True)):
            raise ValueError("the prompts differ before the picture")
        return start, [list(row[end:]) for row, end in zip(rows, ends, strict=True)]

    def _encoded(self, images: Sequence[Image.Image], prompts: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Inputs for models of another layout than LLaVA's: a picture is encoded once, but read by each of its rows."""
        asked = [index for index, row in enumerate(prompts) if row]
        inputs = read_inputs(self.mllm, [images[index] for index in asked], [prompts[index] for index in asked])
        device, dtype = self.mllm.model.device, self.mllm.model.dtype
        on_device = {
            name: one.to(device, dtype if one.is_floating_point() else None) for name, one in inputs.pictures.items()
        }
        ids, attention = self._pad_left(inputs.ids)
        types = {name: pad_left(rows, 0) for name, rows in inputs.token_types.items()}
        read = {"input_ids": ids, "attention_mask": attention, **types}
        return {
            **{name: one.to(device) for name, one in read.items()},
            **features_of_rows(self.mllm, replace(inputs, pictures=on_device)),
        }

    def _pad_left(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and attention mask, (rows, longest)."""
        ids = pad_left(rows, int(self.mllm.tokenizer.pad_token_id))
        return ids, pad_left([[1] * len(row) for row in rows], 0)

    def _generation_config(self) -> GenerationConfig:
        return GenerationConfig(
            max_new_tokens=self.settings.max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.mllm.end_token_id,
            pad_token_id=self.mllm.tokenizer.pad_token_id,
        )

    def _read(self, row: list[int], logits: list[list[list[float]]]) -> GeneratedText:
        """One row's text; ``logits`` (steps, deciders, 2) are the deciding tokens'."""
        finished = self.mllm.end_token_id in row
        ids = row[: row.index(self.mllm.end_token_id)] if finished else row
        scores: list[float | None] = []
        for index, tokens in enumerate(self._deciders):
            place = tokens.locate(ids)
            scores.append(None if place is None else _p_fake(*logits[place][index]))
        return GeneratedText(self.mllm.tokenizer.decode(ids, skip_special_tokens=True).strip(), finished, *scores)

    def _row_seeds(self, images: Sequence[Image.Image], prompts: Sequence[Sequence[str]]) -> list[int]:
        """A seed a row out of what the row is, so that a picture's samples are the same in any batch."""
        seeds = []
        for image, row in zip(images, prompts, strict=True):
            picture = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
            for place, prompt in enumerate(row):
                identity = f"{self.settings.seed}:{picture}:{place}:{prompt}"
                seeds.append(int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") >> 1)
        return seeds
