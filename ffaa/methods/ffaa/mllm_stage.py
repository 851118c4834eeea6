"""Stage 1: LoRA and the projector, on questions with and without a hypothesis (FFAA, section 3)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from ffaa.backbones.adapter import attach_lora, check_tensors, restore_adapter, save_adapter
from ffaa.backbones.feature_cache import FeatureCache, Lookup, tower_identity
from ffaa.backbones.inputs import Inputs, read_inputs
from ffaa.backbones.mixstyle import mix_statistics
from ffaa.backbones.mllm import Mllm, build_mllm, patch_states
from ffaa.backbones.parts import language_model_of, projector_of
from ffaa.backbones.quantized import check_quantization
from ffaa.backbones.templates import IMAGE_TOKEN
from ffaa.config import load_yaml, model_folder
from ffaa.data.formats import TrainingSet
from ffaa.data.images import inside, open_image
from ffaa.methods.base import Outline, StageRun
from ffaa.methods.ffaa.method import FfaaConfig
from ffaa.methods.ffaa.outlines import mllm_outline
from ffaa.methods.ffaa.warmup import PROJECTOR_FILE
from ffaa.methods.ffaa.watched import watch_answers
from ffaa.methods.stage_config import StageConfig
from ffaa.methods.stage_data import read_stage_data
from ffaa.runtime import config_hash, pick_device, pick_dtype, sha256_file, sha256_folder
from ffaa.types import InputError, Record

IGNORED = -100
RECORDS_FILE = "records.jsonl"
OPTIONS = ("slots", "mixstyle", "quantize", "image_folder", "max_tokens")


@dataclass
class AnswerLoss(ModelOutput):
    """Weighted cross-entropy over answer tokens (nats)."""

    loss: Tensor | None = None


class AnswerModel(nn.Module):
    """An image-text model that returns the loss over answer tokens, each with its weight.

    Only the positions that predict an answer token go through the vocabulary: with picture and question in front, they
    are about a third of the sequence.
    """

    def __init__(self, model: PeftModel, mixstyle: float = 0.0, cache: FeatureCache | None = None) -> None:
        super().__init__()
        self.model = model
        self.mixstyle = mixstyle
        self.cache = cache
        if mixstyle:
            projector_of(model.get_base_model()).register_forward_pre_hook(self._mix)

    def activation_checkpointing_enable(self, activation_checkpointing_kwargs: Any = None, **settings: Any) -> None:
        """For the Trainer: keep of each layer of the language model its input alone; the frozen tower keeps nothing."""
        language_model = language_model_of(self.model.get_base_model())
        language_model.activation_checkpointing_enable(activation_checkpointing_kwargs, **settings)

    def _mix(self, _: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not (self.training and self.mixstyle):
            return arguments
        return (mix_statistics(arguments[0], self.mixstyle), *arguments[1:])

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pictures: dict[str, Tensor],
        labels: Tensor,
        weights: Tensor,
        features: Lookup | None = None,
    ) -> AnswerLoss:
        """All (N, L) but ``pictures``, what the model takes of them by its own names (of the LLaVA layout
        ``pixel_values`` (N, 3, S, S)); ``labels`` are -100 outside the answer.

        With ``features``, patch features of pictures, ``pictures`` are those that the cache did not know.
        """
        base = self.model.get_base_model()
        shown: dict[str, Any] = dict(pictures)
        if self.cache is not None and features is not None:
            compute = partial(patch_states, base)
            patches = self.cache.complete(features, (pictures["pixel_values"],), base.model.vision_tower, compute)
            tokens = list(base.model.multi_modal_projector(patches))
            shown = {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=tokens)}}
        hidden = base.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **shown
        ).last_hidden_state
        keep = labels[:, 1:] != IGNORED
        logits = base.lm_head(hidden[:, :-1][keep]).float()
        losses = F.cross_entropy(logits, labels[:, 1:][keep], reduction="none")
        kept = weights[:, 1:][keep]
        return AnswerLoss(loss=(losses * kept).sum() / kept.sum())


@dataclass(frozen=True)
class Conversation:
    """One question about one picture, and its answer."""

    image: Path
    question: str
    answer: str


class ConversationDataset(Dataset[Conversation]):
    """The conversations of a set: one question and one answer each. InputError names a record that has no such."""

    def __init__(self, data: TrainingSet) -> None:
        self.conversations = data.each(lambda record: conversation(record, data.root))

    @property
    def lengths(self) -> list[int]:
        """Characters of each conversation; what a picture takes is not counted, which differs where it is tiled."""
        return [len(one.question) + len(one.answer) for one in self.conversations]

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> Conversation:
        return self.conversations[index]

    def check_questions(self, mllm: Mllm) -> None:
        """Raise InputError naming the picture whose question the model cannot be asked, before a step comes to it."""
        for question, image in {one.question: one.image for one in self.conversations}.items():
            try:
                mllm.prompt(question)
            except InputError as error:
                raise InputError(f"{image}: {error}") from error


def conversation(record: Record, root: Path) -> Conversation:
    """The question and the answer of one record; where the picture stands among them is for the template to say.

    Raises:
        InputError: the turns are not one question and one answer, or the answer is empty.
    """
    roles = [turn["from"] for turn in record.conversations]
    if roles != ["human", "gpt"]:
        raise InputError(f"record {record.id!r} has turns {roles}; stage 1 trains on human, gpt")
    question, answer = (turn["value"] for turn in record.conversations)
    if not answer.strip():
        raise InputError(f"the answer of record {record.id!r} is empty")
    return Conversation(inside(root, record.image), question.replace(IMAGE_TOKEN, "").strip(), answer)


@dataclass(frozen=True)
class AnswerCollator:
    """Conversations -> padded batch; the loss covers the answer and its end token, nothing else.

    ``slots`` maps regular expressions to weights: tokens that overlap group 1 of a match in the answer weigh that much,
    all others 1. Ids are built from parts (prompt, answer, end), so the boundary is where it is in inference. What goes
    beyond ``max_tokens``, the picture's included, is cut off the answer.
    """

    mllm: Mllm
    slots: Mapping[str, float]
    cache: FeatureCache | None = None
    max_tokens: int | None = None

    def __call__(self, conversations: Sequence[Conversation]) -> dict[str, Any]:
        asked = [self.mllm.prompt(conversation.question) for conversation in conversations]
        paths = [conversation.image for conversation in conversations]
        lookup: dict[str, Lookup] = {}
        if self.cache is None:
            inputs = read_inputs(self.mllm, [open_image(path) for path in paths], [[prompt] for prompt in asked])
        else:
            inputs, lookup = self._kept(self.cache, paths, asked)
        prompts = inputs.ids
        answers = [
            self._answer(one.answer, self._room(one, ids)) for one, ids in zip(conversations, prompts, strict=True)
        ]
        rows = [prompt + ids for prompt, (ids, _) in zip(prompts, answers, strict=True)]
        silent = [len(prompt) for prompt in prompts]
        # An answer's tokens are of type 0, as padding is.
        types = {name: _pad_right(found, 0, max(map(len, rows))) for name, found in inputs.token_types.items()}
        return {
            "input_ids": _pad_right(rows, self.mllm.tokenizer.pad_token_id),
            "attention_mask": _pad_right([[1] * len(row) for row in rows], 0),
            "labels": _pad_right([[IGNORED] * n + ids for n, (ids, _) in zip(silent, answers, strict=True)], IGNORED),
            "weights": _pad_right([[0.0] * n + weights for n, (_, weights) in zip(silent, answers, strict=True)], 0.0),
            "pictures": {**inputs.pictures, **types},
            **lookup,
        }

    def _kept(
        self, cache: FeatureCache, paths: Sequence[Path], prompts: Sequence[str]
    ) -> tuple[Inputs, dict[str, Lookup]]:
        """Pictures whose features are kept are not even opened."""
        lookup = cache.look_up([cache.picture_key(path) for path in paths])
        side = self.mllm.model.config.vision_config.image_size
        unknown = [open_image(paths[row]) for row in lookup["others"].tolist()]
        pixels = self.mllm.pixel_values(unknown) if unknown else torch.empty(0, 3, side, side)
        ids = [self.mllm.prompt_ids(prompt) for prompt in prompts]
        return Inputs(ids, list(range(len(ids))), {"pixel_values": pixels}), {"features": lookup}

    def _room(self, conversation: Conversation, prompt: Sequence[int]) -> int | None:
        """Tokens that are left for the answer; InputError where there are none."""
        if self.max_tokens is None:
            return None
        if len(prompt) >= self.max_tokens:
            raise InputError(
                f"{conversation.image}: picture and question take {len(prompt)} tokens, which leaves no room for an "
                f"answer within max_tokens {self.max_tokens}"
            )
        return self.max_tokens - len(prompt)

    def _answer(self, answer: str, room: int | None) -> tuple[list[int], list[float]]:
        """Ids of what is to be said after the prompt, the end token included, and their weights; ``room`` at most."""
        start = self.mllm.template.answer_start
        tokens = self.mllm.tokenizer(start + answer, add_special_tokens=False, return_offsets_mapping=True)
        offsets = [(left - len(start), right - len(start)) for left, right in tokens["offset_mapping"]]
        ids, weights = [*tokens["input_ids"], self.mllm.end_token_id], [*self._weights(answer, offsets), 1.0]
        return ids[:room], weights[:room]

    def _weights(self, answer: str, offsets: Sequence[tuple[int, int]]) -> list[float]:
        weights = [1.0] * len(offsets)
        for pattern, weight in self.slots.items():
            for match in re.finditer(pattern, answer):
                start, end = match.span(1)
                for index, (left, right) in enumerate(offsets):
                    if left < end and right > start:
                        weights[index] = weight
        return weights


def _pad_right(rows: Sequence[Sequence[int] | Sequence[float]], filler: float, length: int = 0) -> Tensor:
    """(rows, length), each row at the left; the length of the longest where that is more."""
    longest = max(length, *map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])


class MllmStage:
    """Stage ``mllm``. ``init``: a projector (stage 0) or an adapter of this stage to go on from.

    Options: ``slots``, weights of deciding tokens (``AnswerCollator``); ``mixstyle``, the share of a batch's pictures
    that borrow feature statistics (``ffaa.backbones.mixstyle``); ``image_folder``, what the pictures of a published
    file are relative to; ``quantize``, ``4bit`` or ``8bit`` for a language model whose frozen weights are packed
    (``ffaa.backbones.quantized``); ``max_tokens``, of a whole conversation with its picture.
    """

    name = "mllm"

    def prepare(self, config: StageConfig) -> StageRun:
        config.check_options(*OPTIONS)
        slots = _slots(config.options.get("slots", {}))
        max_tokens = _max_tokens(config.options.get("max_tokens"))
        settings = load_yaml(model_folder(config.method, config.model) / "model.yaml", FfaaConfig)
        # Before the model, which takes a while: what is missing is said at once.
        quantize = config.options.get("quantize")
        check_quantization(quantize, whole=settings.mllm.base is not None, deepspeed_stage=config.zero_stage())
        data = read_stage_data(config, RECORDS_FILE)
        train = ConversationDataset(data.train)
        validation = ConversationDataset(data.validation) if data.validation else None
        mixstyle = config.mixstyle_share()
        dtype = pick_dtype(config.dtype, pick_device(config.device))
        mllm = build_mllm(settings.mllm, dtype=dtype, seed=config.seed, quantize=quantize)
        refuse_of_one_view(config, mllm)
        for one in (train, validation):
            if one is not None:
                one.check_questions(mllm)
        given = {**data.hashes, "model.yaml": config_hash(settings.mllm)}
        adapter = config.init / "mllm" if config.init and (config.init / "mllm").is_dir() else None
        if config.init and not adapter:
            load_projector(mllm, config.init / PROJECTOR_FILE)
            given["init"] = sha256_file(config.init / PROJECTOR_FILE)
        peft_model = attach_lora(mllm, settings.mllm, seed=config.seed)
        if adapter:
            restore_adapter(peft_model, adapter)
            given["init"] = sha256_folder(adapter)
        for parameter in peft_model.parameters():
            if parameter.requires_grad:  # what learns is kept in full precision, autocast does the rest
                parameter.data = parameter.data.float()
        cache = open_cache(config, mllm)
        collate = AnswerCollator(mllm, slots, cache, max_tokens)

        def save(folder: Path) -> None:
            save_adapter(peft_model, folder / "mllm")
            data.write_facts(folder)

        watch = watch_answers(mllm, data.validation, settings.max_new_tokens, config.seed) if data.validation else None
        return StageRun(AnswerModel(peft_model, mixstyle, cache), train, validation, collate, save, watch, given)

    def outline(self, config: StageConfig) -> Outline:
        """For ``--dry_run``."""
        config.check_options(*OPTIONS)
        if not config.data.exists():
            return mllm_outline(config, AnswerModel, None)
        conversations = ConversationDataset(read_stage_data(config, RECORDS_FILE).train).conversations
        return mllm_outline(config, AnswerModel, [(one.question, one.answer) for one in conversations])


def refuse_of_one_view(config: StageConfig, mllm: Mllm) -> None:
    """Raises InputError for options that need a picture to be one view, where the model tiles it or takes it whole."""
    asked = {"option mixstyle": config.share_option("mixstyle") > 0, "feature_cache": config.feature_cache is not None}
    for name, given in asked.items():
        if given and not mllm.one_view:
            kind = mllm.model.config.model_type
            raise InputError(f"{name} is for models that see a picture in one view (type llava); this one is a {kind}")


def open_cache(config: StageConfig, mllm: Mllm) -> FeatureCache | None:
    """Where the patch features that the projector reads are kept; None where ``feature_cache`` names no folder."""
    if config.feature_cache is None:
        return None
    model: Any = mllm.model
    identity = tower_identity(
        {"vision": model.model.vision_tower},
        kind="patches",
        layers=model.config.vision_feature_layer,
        strategy=model.config.vision_feature_select_strategy,
        aspect=mllm.config.image_aspect,
        preprocessing=mllm.processor.image_processor.to_dict(),
    )
    return FeatureCache(config.feature_cache, int(config.feature_cache_gb * 1e9), identity)


def _slots(value: object) -> dict[str, float]:
    """The option ``slots``, checked: regular expressions with a group, each with a weight from 0 up."""
    if not isinstance(value, Mapping):
        raise InputError(f"option slots maps regular expressions to weights, it is no {type(value).__name__}")
    for pattern, weight in value.items():
        try:
            groups = re.compile(str(pattern)).groups
        except re.error as error:
            raise InputError(f"option slots: {pattern!r} is no regular expression: {error}") from error
        if not groups:
            raise InputError(f"option slots: {pattern!r} has no group (in parentheses) to weigh")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise InputError(f"option slots: the weight of {pattern!r} is a number from 0 up, not {weight!r}")
    return {str(pattern): float(weight) for pattern, weight in value.items()}


def _max_tokens(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise InputError(f"option max_tokens is a number of tokens from 1 up, not {value!r}")


def load_projector(mllm: Mllm, path: Path) -> None:
    """Put trained weights into the projector.

    Raises:
        InputError: no such file, or its tensors are not the projector's.
    """
    if not path.is_file():
        raise InputError(f"no projector {path}: train stage projector first (configs/ffaa/mini/projector.yaml)")
    tensors = load_file(path)
    projector = projector_of(mllm.model)
    check_tensors(projector.state_dict(), tensors, path)
    projector.load_state_dict(tensors)
