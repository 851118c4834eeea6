"""Put the results of stages 1 and 2 together as one checkpoint folder to share, and load it to prove it whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ffaa.config import load_yaml, model_folder, parse
from ffaa.data.faces import CROP_MARGIN
from ffaa.forge.forgery import FORGERY_TYPES
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, atomic_write_text, run_door
from ffaa.types import InputError


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
    from ffaa.methods.calibration import CALIBRATION_FILE
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
        "towers": {name: tower_hash(name) for name in dict.fromkeys(s for s in sources if isinstance(s, str))},
    }
    parts = {"mllm": options.mllm / "mllm", "mids": options.mids / "mids"}
    for part, source in parts.items():
        if not source.is_dir():
            raise InputError(f"no such folder: {source}; train stage {part} first")
    options.out.mkdir(parents=True, exist_ok=True)
    # What stands in the folder is replaced only by parts that were seen to load.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=options.out) as made:
        new = Path(made)
        for part, source in parts.items():
            shutil.copytree(source, new / part)
        atomic_write_text(new / CHECKPOINT_FILE, json.dumps(facts, indent=2) + "\n")
        method = load_method("ffaa", model_dir=folder, checkpoint=new, device="cpu")
        for name in (*parts, CHECKPOINT_FILE):
            if (options.out / name).is_dir():
                shutil.rmtree(options.out / name)
            os.replace(new / name, options.out / name)
        # It was fitted to the weights that were there before.
        (options.out / CALIBRATION_FILE).unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in options.out.rglob("*.safetensors")) / 1e6
    print(f"{options.out}: {size:.1f} MB of weights, loads as {method.name}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
