"""Put the results of stages 1 and 2 together as one checkpoint folder to share, and load it to prove it whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from ffaa.config import load_yaml, model_folder, parse
from ffaa.data.faces import CROP_MARGIN
from ffaa.forge.forgery import FORGERY_TYPES
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, run_door


@dataclass(frozen=True)
class Options:
    model: str = "mini"
    """Folder configs/ffaa/<model>/."""
    mllm: Path = PROJECT_ROOT / "runs" / "ffaa-mini" / "mllm"
    """Output of stage mllm."""
    mids: Path = PROJECT_ROOT / "runs" / "ffaa-mini" / "mids"
    """Output of stage mids."""
    out: Path = PROJECT_ROOT / "playground" / "mini"
    """Checkpoint folder; other files in it stay."""


def main() -> int:
    options = parse(Options, prog="assemble_checkpoint.py", description=__doc__ or "")
    from ffaa.methods import load_method
    from ffaa.methods.checkpoint import CHECKPOINT_FILE, CHECKPOINT_FORMAT, tower_hash
    from ffaa.methods.ffaa.method import FfaaConfig

    folder = model_folder("ffaa", options.model)
    config = load_yaml(folder / "model.yaml", FfaaConfig)
    sources = (config.mllm.vision, config.mllm.language, config.mids.vision, config.mids.text)
    facts = {
        "format": CHECKPOINT_FORMAT,
        "method": "ffaa",
        "model": options.model,
        "forgery_types": list(dict.fromkeys(FORGERY_TYPES.values())),
        "crop_margin": CROP_MARGIN,
        "towers": {name: tower_hash(name) for name in dict.fromkeys(sources) if isinstance(name, str)},
    }
    for part, source in (("mllm", options.mllm), ("mids", options.mids)):
        shutil.rmtree(options.out / part, ignore_errors=True)
        shutil.copytree(source / part, options.out / part)
    atomic_write_text(options.out / CHECKPOINT_FILE, json.dumps(facts, indent=2) + "\n")
    method = load_method("ffaa", model_dir=folder, checkpoint=options.out, device="cpu")
    size = sum(path.stat().st_size for path in options.out.rglob("*.safetensors")) / 1e6
    print(f"{options.out}: {size:.1f} MB of weights, loads as {method.name}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
