"""Layouts of a conversation: those of published models, to the letter, and what a model of the hub brings itself."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from ffaa.dialogue.prompts import SYSTEM_PROMPT
from ffaa.runtime import closest
from ffaa.types import InputError

IMAGE_TOKEN = "<image>"
"""What stands for a picture in a conversation of the LLaVA layout."""
OWN = "own"
"""The layout that a whole image-text model brings as its chat template."""

_QUESTION, _ANSWER = "{question}", "{answer}"


@dataclass(frozen=True)
class Template:
    """One turn up to where the answer begins, with the picture's placeholder and ``{question}``; and what ends it."""

    turn: str
    answer_end: str
    answer_start: str = ""
    """What stands before each answer without being part of it, such as a space."""

    def render(self, question: str) -> str:
        """The turn with the question in its place."""
        # Not str.format: another model's layout may hold braces of its own.
        return self.turn.replace(_QUESTION, question)


TEMPLATES = {
    "chatml": Template(
        turn=f"<|im_start|>user\n{IMAGE_TOKEN}\n{_QUESTION}<|im_end|>\n<|im_start|>assistant\n",
        answer_end="<|im_end|>",
    ),
    "vicuna_v1": Template(
        turn=f"{SYSTEM_PROMPT} USER: {IMAGE_TOKEN}\n{_QUESTION} ASSISTANT:",
        answer_end="</s>",
    ),
}


def check_template(name: str, *, whole: bool) -> None:
    """Refuse a template that does not exist or cannot be had.

    Raises:
        InputError: no such name, or ``own`` for a model that is not ``whole`` but assembled and so has none.
    """
    known = (*TEMPLATES, OWN)
    if name not in known:
        raise InputError(f"unknown template {name!r}{closest(name, known)}")
    if name == OWN and not whole:
        raise InputError(f"template {OWN!r} is that of a base, and no base is given: choose {' or '.join(TEMPLATES)}")


def own_template(processor: ProcessorMixin) -> Template:
    """The layout of a processor's chat template; an answer ends where it ends, or at the end-of-text token.

    Raises:
        InputError: it has none, or none that renders one turn of a picture and a question.
    """
    asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _QUESTION}]}
    answered = {"role": "assistant", "content": [{"type": "text", "text": _ANSWER}]}
    try:
        turn = processor.apply_chat_template([asked], add_generation_prompt=True, tokenize=False)
        whole = processor.apply_chat_template([asked, answered], tokenize=False)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, TemplateError) as error:
        # A template is a small program of somebody else's.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the base's own chat template renders no turn: {reason}") from error
    picture = getattr(processor, "image_token", IMAGE_TOKEN)
    if turn.count(_QUESTION) != 1 or whole.count(_ANSWER) != 1 or turn.count(picture) != 1:
        raise InputError("the base's own chat template does not render a picture, a question and its answer once each")
    tokenizer = processor.tokenizer
    before, _, after = whole.partition(_ANSWER)
    start = before.removeprefix(turn) if before.startswith(turn) else ""
    # The tokenizer puts it there; transformers too leaves one of the two out.
    if tokenizer.bos_token and adds_bos(tokenizer):
        turn = turn.removeprefix(tokenizer.bos_token)
    ends = {after.index(token): token for token in control_tokens(tokenizer) if token in after}
    return Template(turn, ends[min(ends)] if ends else tokenizer.eos_token, start)


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """All that have a meaning of their own, those that a tokenizer only lists among its added ones too."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return list(dict.fromkeys([*tokenizer.all_special_tokens, *added]))


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it begins every text with its own first token."""
    return list(tokenizer("x")["input_ids"][:1]) == [tokenizer.bos_token_id]


def chat_template(template: Template, *, bos: bool = False) -> str:
    """The layout as the Jinja template that ``apply_chat_template`` renders for one user turn with one picture.

    ``bos`` writes the tokenizer's first token too. transformers then adds no second one, and servers such as vLLM,
    which leave it to the template, have it at all.
    """
    before, after = template.turn.split(f"{IMAGE_TOKEN}\n{_QUESTION}")
    content = (
        "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{% for p in m['content'] %}{% if p['type'] == 'image' %}{{ '" + IMAGE_TOKEN + "\\n' }}{% endif %}{% endfor %}"
        "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}"
    )
    return (
        ("{{ bos_token }}" if bos else "")
        + "{% for m in messages %}{% if m['role'] == 'user' %}"
        + f"{{{{ {before!r} }}}}"
        + content
        + f"{{{{ {after!r} }}}}"
        + "{% else %}"
        + content
        + f"{{{{ {template.answer_end!r} }}}}"
        + "{% endif %}{% endfor %}"
    )
