"""What every method is to the rest of the code: something that analyses pictures, trained in stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


class Stage(Protocol):
    """One step of a method's training."""

    name: str

    def prepare(self, config: StageConfig) -> StageRun:
        """Model, data and how to save them.

        Raises:
            InputError: data or initial weights are missing or do not fit.
        """
        ...
