"""The tokenizer of a published LLaVA checkpoint, made so that a prompt gets the ids that its training gave it.

The original code splits a prompt at the picture and tokenises the halves apart, so that a sentencepiece model puts its
dummy prefix before the text after the picture too. transformers' own Llama tokenizer puts it at the beginning of the
whole text only; the one made here puts it after each control token, and is checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AddedToken, LlavaImageProcessor, LlavaProcessor, PreTrainedTokenizerBase
from transformers import PreTrainedTokenizerFast as FastTokenizer
from transformers.convert_slow_tokenizer import SentencePieceExtractor

from ffaa.backbones.templates import IMAGE_TOKEN, TEMPLATES, adds_bos, chat_template
from ffaa.config import read_json
from ffaa.dialogue.prompts import FREE_QUESTIONS, HYPOTHESIS_QUESTIONS
from ffaa.types import InputError

MODEL_FILE, FAST_FILE = "tokenizer.model", "tokenizer.json"
_SPACE = "▁"
_BPE = 2
_UNLIMITED = int(1e30)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder brings a tokenizer."""
    return (folder / MODEL_FILE).is_file() or (folder / FAST_FILE).is_file()


def published_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The folder's tokenizer with ``<image>`` in its vocabulary, padding on the left.

    Raises:
        InputError: no tokenizer there, one that cannot be carried over, or ids that are not those of the two halves
            tokenised apart.
    """
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    if (folder / MODEL_FILE).is_file():
        backend, special = _from_sentencepiece(folder / MODEL_FILE, settings)
    elif (folder / FAST_FILE).is_file():
        backend, special = _from_fast(folder / FAST_FILE), {}
    else:
        raise InputError(f"{folder} holds no tokenizer ({MODEL_FILE} or {FAST_FILE})")
    named = {**special, **_special_tokens(folder, settings)}
    length = settings.get("model_max_length")
    tokenizer = FastTokenizer(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=length if isinstance(length, int) and length < _UNLIMITED else _UNLIMITED,
        **named,
    )
    _add_tokens(tokenizer, folder, settings)
    if tokenizer.pad_token is None:  # as the published training did
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    if IMAGE_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    check_halves(tokenizer, folder)
    return tokenizer


def llava_processor(
    tokenizer: PreTrainedTokenizerBase, vision: Mapping[str, Any], *, pad: bool, strategy: str, template: str
) -> LlavaProcessor:
    """What turns pictures and conversations into a converted model's input, by transformers alone.

    Args:
        tokenizer: of the model.
        vision: configuration of its image tower.
        pad: pictures are padded to squares with CLIP's mean colour; otherwise their middle is cut out.
        strategy: ``default``: the class token is left out; ``full``.
        template: name of the conversation's layout, see ``TEMPLATES``.
    """
    side = int(vision["image_size"])
    pictures = LlavaImageProcessor(do_pad=pad, size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=int(vision["patch_size"]),
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=1,
        chat_template=chat_template(TEMPLATES[template], bos=adds_bos(tokenizer)),
    )


def halves_apart(tokenizer: PreTrainedTokenizerBase, prompt: str, image_tokens: int) -> list[int]:
    """Ids of a prompt as the original code makes them: its halves apart, the second without its first token."""
    image_id = int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
    before, after = prompt.split(IMAGE_TOKEN)
    first = list(tokenizer(before)["input_ids"])
    second = list(tokenizer(after, add_special_tokens=False)["input_ids"])
    return first + [image_id] * image_tokens + second


def check_halves(tokenizer: PreTrainedTokenizerBase, source: Path) -> None:
    """Whether prompts in one piece get the ids of their halves. Raises InputError where they do not."""
    for question in (*FREE_QUESTIONS, *HYPOTHESIS_QUESTIONS.values()):
        prompt = TEMPLATES["vicuna_v1"].render(question)
        whole = list(tokenizer(prompt.replace(IMAGE_TOKEN, IMAGE_TOKEN * 2))["input_ids"])
        if whole != halves_apart(tokenizer, prompt, 2):
            raise InputError(f"the tokenizer in {source} gives a prompt other ids in one piece than its halves apart")


def _from_sentencepiece(file: Path, settings: Mapping[str, Any]) -> tuple[Tokenizer, dict[str, str]]:
    """The same model as a ``tokenizers`` one, checked against sentencepiece itself; its control tokens."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise InputError(f"reading {file} needs the package sentencepiece: pip install 'ffaa[convert]'") from error
    try:
        original = SentencePieceProcessor(model_file=str(file))
        extractor = SentencePieceExtractor(str(file))
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(f"{file} is no sentencepiece model: {str(error).splitlines()[0]}") from error
    spec = extractor.proto.normalizer_spec
    if extractor.proto.trainer_spec.model_type != _BPE or spec.precompiled_charsmap or spec.remove_extra_whitespaces:
        raise InputError(f"{file} is no byte-pair model that takes text as it is, which Llama's and Mistral's are")
    found = extractor.extract(None)
    unknown = original.id_to_piece(original.unk_id())
    backend = Tokenizer(
        models.BPE(found["vocab"], found["merges"], unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    prefix = [normalizers.Prepend(_SPACE)] if spec.add_dummy_prefix else []
    backend.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if spec.add_dummy_prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    backend.add_special_tokens(found["additional_special_tokens"])
    special = {"unk_token": unknown}
    for role, index in (("bos_token", original.bos_id()), ("eos_token", original.eos_id())):
        if index >= 0:
            special[role] = original.id_to_piece(index)
    if settings.get("add_bos_token", True) and "bos_token" in special:
        bos = special["bos_token"]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, original.bos_id())]
        )
    for question in (*FREE_QUESTIONS, *HYPOTHESIS_QUESTIONS.values()):
        for half in TEMPLATES["vicuna_v1"].render(question).split(IMAGE_TOKEN):
            if backend.encode(half, add_special_tokens=False).ids != original.encode(half):
                raise InputError(f"{file} cannot be carried over: {half!r} gets other ids")
    return backend, special


def _from_fast(file: Path) -> Tokenizer:
    values = read_json(file)
    if "model" not in values:
        raise InputError(f"{file} is no tokenizer of the tokenizers library")
    backend = Tokenizer.from_str(json.dumps(values))
    if isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always", split=False)
    return backend


def _special_tokens(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """The roles that the folder's files give to tokens."""
    roles = ("bos_token", "eos_token", "unk_token", "pad_token")
    file = folder / "special_tokens_map.json"
    told = {**settings, **(read_json(file) if file.is_file() else {})}
    found = {}
    for role in roles:
        value = told.get(role)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[role] = text
    return found


def _add_tokens(tokenizer: PreTrainedTokenizerBase, folder: Path, settings: Mapping[str, Any]) -> None:
    """Tokens that were added after the vocabulary was learned, each at the id it had."""
    decoder = settings.get("added_tokens_decoder", {})
    added = {str(token["content"]): int(index) for index, token in decoder.items()}
    special = {str(token["content"]) for token in decoder.values() if token.get("special")}
    if (folder / "added_tokens.json").is_file():
        added |= {str(token): int(index) for token, index in read_json(folder / "added_tokens.json").items()}
    special |= set(_special_tokens(folder, settings).values())
    for token, index in sorted(added.items(), key=lambda item: item[1]):
        if tokenizer.get_vocab().get(token) is None:
            tokenizer.add_tokens(
                [AddedToken(token, special=token in special, normalized=False)], special_tokens=token in special
            )
        if tokenizer.convert_tokens_to_ids(token) != index:
            raise InputError(f"{folder}: token {json.dumps(token)} cannot be put at its id {index}")
