"""Text encoders by asset name, Hugging Face folder or id, or a mapping of configuration values (random weights)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers import processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5EncoderModel,
)

from ffaa.backbones.byte_tokenizer import BOS_TOKEN, BYTE_VOCABULARY_SIZE, EOS_TOKEN, byte_tokenizer
from ffaa.backbones.vision import Source, resolve_source
from ffaa.types import InputError

# Encoder-decoder families of which only the encoder is wanted; everything else goes through AutoModel.
ENCODER_ONLY_CLASSES: dict[str, type[PreTrainedModel]] = {"t5": T5EncoderModel}


def load_text_encoder(source: Source, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A text encoder (fp32, CPU, eval mode) and its tokenizer.

    ``model(input_ids=(B, L), attention_mask=(B, L)).last_hidden_state`` is (B, L, width). A mapping holds configuration
    values (``model_type`` defaults to ``bert``) and gives random weights drawn from ``seed`` and the byte tokenizer.
    Raises InputError when the weights cannot be found, do not fill the encoder, or the vocabulary is too small.
    """
    if isinstance(source, Mapping):
        return _random_encoder(source, seed), _byte_tokenizer_with_ends()
    place = resolve_source(source)
    try:
        config = AutoConfig.from_pretrained(place)
        tokenizer = AutoTokenizer.from_pretrained(place)
        encoder, report = _encoder_class(config).from_pretrained(place, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise InputError(f"no text encoder at {source!r}: {str(error).splitlines()[0]}") from error
    # A pooler reads the first token only; nothing here uses it, and many encoders are published without one.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise InputError(f"{source!r} is not a whole text encoder, it lacks {', '.join(missing[:5])}")
    return encoder.eval(), tokenizer


def text_width(encoder: PreTrainedModel) -> int:
    """Size of the encoder's token states."""
    return int(encoder.config.hidden_size)


def max_positions(encoder: PreTrainedModel) -> int | None:
    """Longest text in tokens that the encoder has positions for; None for relative positions (T5)."""
    limit = getattr(encoder.config, "max_position_embeddings", None)
    return None if limit is None else int(limit)


def _encoder_class(config: PretrainedConfig) -> Any:
    return ENCODER_ONLY_CLASSES.get(config.model_type, AutoModel)


def _random_encoder(values: Mapping[str, Any], seed: int) -> PreTrainedModel:
    settings = dict(values)
    try:
        config = AutoConfig.for_model(settings.pop("model_type", "bert"), **settings)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"no text encoder is made of {dict(values)}: {str(error).splitlines()[0]}") from error
    if config.vocab_size < BYTE_VOCABULARY_SIZE:
        raise InputError(f"a random text encoder needs vocab_size >= {BYTE_VOCABULARY_SIZE}, got {config.vocab_size}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        known = ENCODER_ONLY_CLASSES.get(config.model_type)
        encoder = AutoModel.from_config(config) if known is None else known(config)
    return encoder.eval()


def _byte_tokenizer_with_ends() -> PreTrainedTokenizerFast:
    """The byte tokenizer with ``<s> text </s>``, as encoders expect; so an empty text still has two tokens."""
    tokenizer = byte_tokenizer()
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (BOS_TOKEN, EOS_TOKEN)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS_TOKEN} $A {EOS_TOKEN}", special_tokens=ends
    )
    return tokenizer
