"""The methods. One visible table: name -> module with a ``load`` function, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ffaa.runtime import Compute, check_seed, closest
from ffaa.types import InputError, Mode

if TYPE_CHECKING:
    from ffaa.methods.base import Method, Stage

METHODS = {
    "ffaa": "ffaa.methods.ffaa.method",
    "llava": "ffaa.methods.llava.method",
}


STAGES = {
    "ffaa": {
        "projector": "ffaa.methods.ffaa.warmup:ProjectorStage",
        "mllm": "ffaa.methods.ffaa.mllm_stage:MllmStage",
        "mids": "ffaa.methods.ffaa.mids_stage:MidsStage",
    },
}
"""Method -> stages of its training, in order."""


def find_stage(method: str, stage: str) -> Stage:
    """A stage of a method's training.

    Raises:
        InputError: unknown method or stage; names the closest ones.
    """
    if method not in STAGES:
        raise InputError(f"no training for method {method!r}{closest(method, STAGES)}")
    if stage not in STAGES[method]:
        raise InputError(f"method {method!r} has no stage {stage!r}; it has {', '.join(STAGES[method])}")
    module, name = STAGES[method][stage].split(":")
    found: Stage = getattr(import_module(module), name)()
    return found


def load_method(
    name: str,
    *,
    model_dir: Path,
    checkpoint: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    attn_implementation: str | None = None,
    compile: bool = False,
    quantize: str | None = None,
    generate_num: int | None = None,
    seed: int = 0,
    max_new_tokens: int | None = None,
    mode: Mode = Mode.ALL,
    calibrate: bool = True,
) -> Method:
    """A method ready to analyse pictures.

    Args:
        name: a key of ``METHODS``.
        model_dir: folder with the model's ``model.yaml`` (see ``ffaa.config.model_folder``).
        checkpoint: folder of trained weights, instead of the one that the YAML names.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``, of the language model; selectors run in float32.
        attn_implementation: of the language model, by transformers' name; None: what transformers chooses.
        compile: compile the language model (torch.compile).
        quantize: ``4bit`` or ``8bit``, of the layers of a language model of the hub, on a GPU.
        generate_num: answers per picture, None: what the YAML says.
        seed: chooses each picture's question; random weights (size tiny) are drawn from it too.
        max_new_tokens: length limit of an answer, None: what the YAML says.
        mode: what of it is loaded.
        calibrate: apply the calibration that comes with the weights, where one does.

    Raises:
        InputError: unknown method, wrong YAML, missing or unfitting weights, or a model that cannot be quantised here.
    """
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}{closest(name, METHODS)}")
    check_seed(seed)
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # towers load in a second or two; the bars would stand between the results
    method: Method = import_module(METHODS[name]).load(
        model_dir,
        checkpoint=checkpoint,
        compute=Compute(device, dtype, attn_implementation, compile, quantize),
        generate_num=generate_num,
        seed=seed,
        max_new_tokens=max_new_tokens,
        mode=mode,
        calibrate=calibrate,
    )
    return method
