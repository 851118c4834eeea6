"""What every method is to the rest of the code: something that analyses pictures, trained in stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ffaa.methods.stage_config import StageConfig
from ffaa.types import Analysis, Box, GeneratedText, Request

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset


class Method(Protocol):
    """A system that answers requests. Doors, runner and reports know nothing more of it."""

    name: str
    needs_face: bool
    """Whether pictures must be cropped to a face first."""
    generate_num: int
    """Answers a picture."""

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Hashes of all that its analyses depend on: configuration, towers, trained weights."""
        ...

    def analyze(self, requests: Sequence[Request]) -> list[Analysis]:
        """One analysis a request, in order; a batch gives what its members would give alone."""
        ...


@runtime_checkable
class Generates(Method, Protocol):
    """A method whose language model writes, and which then judges what was written: the two can be done apart.

    ``analyze`` is ``judge`` of what ``write`` gave.
    """

    @property
    def written_by(self) -> Mapping[str, Any]:
        """All that the texts depend on besides picture and question: the language model and how it decodes."""
        ...

    @property
    def picture_bytes(self) -> int:
        """Roughly what one picture takes of the device's memory while its answers are written; 0 where none are."""
        ...

    def questions(self, requests: Sequence[Request]) -> list[list[str]]:
        """What is asked about each picture."""
        ...

    def write(self, requests: Sequence[Request], questions: Sequence[Sequence[str]]) -> list[list[GeneratedText]]:
        """The language model's answers to ``questions[i]`` about the picture of ``requests[i]``.

        Raises:
            InputError: the method was loaded without its language model.
        """
        ...

    def judge(self, requests: Sequence[Request], texts: Sequence[Sequence[GeneratedText]]) -> list[Analysis]:
        """One analysis a request from the answers to all of its questions.

        Raises:
            InputError: the method was loaded without what judges.
        """
        ...


class Explanation(Protocol):
    """A decision to explain, as a method prepares it."""

    @property
    def module(self) -> nn.Module:
        """``pixel_values`` -> outputs (1, K), differentiable in the outputs of ``layers``."""

    @property
    def pixel_values(self) -> Tensor:
        """(1, 3, S, S), what the module is called with."""

    @property
    def layers(self) -> Mapping[str, nn.Module]:
        """Name -> module whose output is (1, 1 + n * n, C): the class token, then the patches row by row."""

    @property
    def target(self) -> Callable[[Tensor], Tensor]:
        """Outputs (K,) -> the number that decided."""

    @property
    def shown(self) -> Box:
        """The part of the picture that ``pixel_values`` show, in the picture's pixels."""


@runtime_checkable
class Explains(Protocol):
    """A method that can say what of the picture decided."""

    def explain(self, request: Request, analysis: Analysis) -> Explanation:
        """What a heat map needs."""
        ...


@dataclass(frozen=True)
class Watch:
    """What a model says of validation pictures while it is trained; each picture once."""

    pictures: Sequence[Path]
    """Files."""
    labels: Sequence[str]
    """``real`` or ``fake``, one a picture."""
    analyze: Callable[[Sequence[int]], list[Analysis]]
    """Indices of pictures -> what the model, as it is then, makes of them; the caller puts it in eval mode."""


@dataclass
class StageRun:
    """What the trainer needs of a stage."""

    model: nn.Module
    """Called with a batch as keywords; returns an object with ``.loss``."""
    train: Dataset[Any]
    """Training samples."""
    validation: Dataset[Any] | None
    """Validation samples."""
    collate: Callable[[list[Any]], Mapping[str, Any]]
    """Samples -> batch of tensors."""
    save: Callable[[Path], None]
    """Writes the stage's result."""
    watch: Watch | None = None
    """Of the validation set; None where there is none, or the stage's model gives no verdict."""
    given: Mapping[str, str] = field(default_factory=dict)
    """What it learns from, begins with and is made of, by hashes of content: a path may come to hold another."""


@dataclass(frozen=True)
class Texts:
    """How long the texts of a stage's samples are, in tokens; a picture's own are not counted."""

    mean: float
    longest: int
    loss: int
    """Of a longest text, those that the loss is over."""


@dataclass(frozen=True)
class Outline:
    """A stage without weights: what ``--dry_run`` plans from."""

    model: nn.Module
    """On the meta device; frozen, cast and called as in training."""
    parts: Mapping[str, str]
    """Name of a part -> pattern (``re.search``) of its parameters; the first that finds one takes it."""
    step: Callable[[int, Texts], Tensor]
    """Pictures of one batch and the length of its texts -> loss; looks at no numbers, so that fake tensors will do."""
    samples: int | None
    """Samples of the training data; None where it is not there."""
    texts: Texts | None
    """Lengths measured on the data; None where data or tokenizer are not there."""
    image_tokens: int
    """Tokens of one picture."""
    texts_per_sample: int
    """Texts that are read with one picture."""
    checkpoints: bool
    """Whether activations can be recomputed instead of kept."""
    packed: Mapping[str, float]
    """Pattern of quantised weights -> bytes of one."""


@runtime_checkable
class Outlines(Protocol):
    """A stage that can be planned without weights."""

    def outline(self, config: StageConfig) -> Outline:
        """Model and sizes.

        Raises:
            InputError: the model's shape is not to be had, or data is there and does not fit.
        """
        ...


class Stage(Protocol):
    """One step of a method's training."""

    name: str

    def prepare(self, config: StageConfig) -> StageRun:
        """Model, data and how to save them.

        Raises:
            InputError: data or initial weights are missing or do not fit.
        """
        ...
