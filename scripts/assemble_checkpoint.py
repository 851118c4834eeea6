"""Put the results of stages 1 and 2 together as one checkpoint folder to share, and load it to prove it whole.

Beside the trained parts (``mllm/``, ``mids/``) it holds tokenizer and chat template (``processor/``), the resolved
``model.yaml`` and each stage's configuration (``stages/``), and in ``checkpoint.json`` the hashes of the bases beneath,
of the data and the git revisions. It is made beside its place and takes it in one step, whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffaa.config import dump_yaml, load_yaml, model_folder, parse, read_json
from ffaa.data.faces import CROP_MARGIN
from ffaa.forge.forgery import FORGERY_TYPES
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, git_revision, run_door, sha256_folder
from ffaa.types import InputError

if TYPE_CHECKING:
    from ffaa.backbones.mllm import Mllm
    from ffaa.methods.ffaa.method import FfaaConfig
    from ffaa.methods.llava.method import LlavaConfig

PARTS = {"ffaa": ("mllm", "mids"), "llava": ("mllm",)}
PROCESSOR, STAGES = "processor", "stages"


@dataclass(frozen=True)
class Options:
    method: str = "ffaa"
    """ffaa, or llava: the language model of stage 1 alone."""
    model: str = "mini"
    """Folder configs/<method>/<model>/."""
    mllm: Path = PROJECT_ROOT / "runs" / "ffaa-mini" / "mllm"
    """Output of stage mllm, or a checkpoint that holds this part."""
    mids: Path = PROJECT_ROOT / "runs" / "ffaa-mini" / "mids"
    """The same of stage mids; not read for llava."""
    out: Path = PROJECT_ROOT / "playground" / "mini"
    """Checkpoint folder; files in it that are no part of a checkpoint stay."""

    def __post_init__(self) -> None:
        if self.method not in PARTS:
            raise InputError(f"method is {' or '.join(PARTS)}, not {self.method!r}")


def keep_others(place: Path, new: Path, replaced: set[str]) -> None:
    """Copy what stands in the old folder beside the checkpoint, such as a model card."""
    for path in place.iterdir() if place.is_dir() else ():
        if path.name not in replaced:
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, new / path.name)


def same_files(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same files; False where the second is not there."""
    return other.is_dir() and sha256_folder(folder) == sha256_folder(other)


def stage_facts(run: Path, part: str, stages: Path) -> dict[str, Any]:
    """What is known of the training that made a part; its resolved configuration is copied into ``stages``."""
    from ffaa.methods.checkpoint import CHECKPOINT_FILE, read_checkpoint
    from ffaa.methods.stage_data import DATA_FILE

    if (run / CHECKPOINT_FILE).is_file():  # the part of another checkpoint: what that one knows
        known, config = read_checkpoint(run).get("stages", {}).get(part, {}), run / STAGES / f"{part}.yaml"
    else:
        manifest = _known(run / "manifest.json")
        known = {"data": _known(run / DATA_FILE) or None, "git_revision": manifest.get("git_revision")}
        config = run / "train.yaml"
    if config.is_file():
        stages.mkdir(exist_ok=True)
        shutil.copyfile(config, stages / f"{part}.yaml")
    told = {
        "data": known.get("data"),
        "git revision": known.get("git_revision"),
        "options": config.is_file(),
    }
    if lacking := [what for what, found in told.items() if not found]:
        print(f"{run} does not tell its {', '.join(lacking)}; neither will the checkpoint")
    return {"data": known.get("data"), "git_revision": known.get("git_revision")}


def _known(file: Path) -> dict[str, Any]:
    """What a run says in this file of its; nothing where it has no such file."""
    return read_json(file) if file.is_file() else {}


def save_processor(mllm: Mllm, folder: Path) -> None:
    """Tokenizer, picture settings and the chat template that was trained with, as transformers saves and loads them."""
    from ffaa.backbones.templates import OWN, adds_bos, chat_template

    if mllm.config.template != OWN:  # a base may bring another
        mllm.processor.chat_template = chat_template(mllm.template, bos=adds_bos(mllm.tokenizer))
    mllm.processor.save_pretrained(folder)


def assemble(options: Options, config: FfaaConfig | LlavaConfig, model_dir: Path, new: Path) -> str:
    """Fill the folder ``new``; returns the name of the method that was seen to load from it."""
    from ffaa.backbones.generation import TransformersEngine
    from ffaa.methods import load_method
    from ffaa.methods.checkpoint import (
        CHECKPOINT_FILE,
        CHECKPOINT_FORMAT,
        conversation_hash,
        describe_bases,
        mllm_bases,
    )
    from ffaa.methods.ffaa.method import mids_bases
    from ffaa.methods.ffaa.mids import read_config

    parts = PARTS[options.method]
    for part in parts:
        shutil.copytree(getattr(options, part) / part, new / part)
    bases = mllm_bases(config.mllm) | (mids_bases(read_config(new / "mids")) if "mids" in parts else {})
    facts = {
        "format": CHECKPOINT_FORMAT,
        "method": options.method,
        "model": options.model,
        "forgery_types": list(dict.fromkeys(FORGERY_TYPES.values())),
        "crop_margin": CROP_MARGIN,
        "git_revision": git_revision(),
        "stages": {part: stage_facts(getattr(options, part), part, new / STAGES) for part in parts},
    }
    dump_yaml(config, new / "model.yaml")
    atomic_write_text(new / CHECKPOINT_FILE, json.dumps(facts))
    method = load_method(options.method, model_dir=model_dir, checkpoint=new, device="cpu")
    engine: TransformersEngine = method.engine  # type: ignore[attr-defined]
    save_processor(engine.mllm, new / PROCESSOR)
    # Last, since a base of the hub is known by its files once they were fetched.
    facts |= {"bases": describe_bases(bases), "conversation": conversation_hash(engine.mllm)}
    atomic_write_text(new / CHECKPOINT_FILE, json.dumps(facts, indent=2) + "\n")
    return method.name


def main() -> int:
    options = parse(Options, prog="assemble_checkpoint.py", description=__doc__ or "")
    from ffaa.methods.calibration import CALIBRATION_FILE
    from ffaa.methods.checkpoint import CHECKPOINT_FILE
    from ffaa.methods.ffaa.method import FfaaConfig
    from ffaa.methods.llava.method import LlavaConfig
    from ffaa.training.state import made_beside

    folder = model_folder(options.method, options.model)
    kinds: dict[str, type[FfaaConfig | LlavaConfig]] = {"ffaa": FfaaConfig, "llava": LlavaConfig}
    config = load_yaml(folder / "model.yaml", kinds[options.method])
    for part in PARTS[options.method]:
        if not (getattr(options, part) / part).is_dir():
            raise InputError(f"no such folder: {getattr(options, part) / part}; train stage {part} first")
    replaced = {*PARTS["ffaa"], PROCESSOR, STAGES, "model.yaml", CHECKPOINT_FILE}
    if not all(same_files(getattr(options, part) / part, options.out / part) for part in PARTS[options.method]):
        replaced.add(CALIBRATION_FILE)  # it was fitted to the weights that were there before
    with made_beside(options.out) as new:
        keep_others(options.out, new, replaced)
        name = assemble(options, config, folder, new)
    size = sum(path.stat().st_size for path in options.out.rglob("*.safetensors")) / 1e6
    print(f"{options.out}: {size:.1f} MB of weights, loads as {name}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
