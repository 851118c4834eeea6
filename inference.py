"""Analyse face pictures: ``python inference.py photo.jpg [more pictures or folders] [--visualize 1] [--json]``."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ffaa.config import Switch, model_folder, parse
from ffaa.runtime import EXIT_DONE, EXIT_PARTIAL, PROJECT_ROOT, run_door


@dataclass(frozen=True)
class InferenceConfig:
    """What to analyse, with which model, and what to show."""

    paths: tuple[str, ...] = (str(PROJECT_ROOT / "playground" / "test_images"),)
    """Pictures, or folders of pictures."""
    method: str = "ffaa"
    """Method: ffaa or llava."""
    model: str = "mini"
    """Model: the folder configs/<method>/<model>/, or a folder with a model.yaml."""
    checkpoint: Path | None = None
    """Folder of trained weights, instead of the model's own."""
    crop: Switch = True
    """Find the face and crop to it, as in training; 0 for pictures that are face crops already."""
    all_faces: Switch = False
    """Analyse every face of a picture instead of the largest."""
    visualize: Switch = False
    """Write heat maps of the decision to <out>/<picture>_heat1.png and _heat2.png."""
    json: Switch = False
    """Print one JSON object a line for each face, and nothing else."""
    question: str | None = None
    """Asked in place of one of the free questions."""
    generate_num: int | None = None
    """Answers per picture (ffaa: 1, 2 or 3); by default the model's."""
    batch_size: int = 8
    """Faces analysed together."""
    out: Path = PROJECT_ROOT / "results" / "inference"
    """Folder for heat maps."""
    seed: int = 0
    """Chooses each picture's question."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16."""
    attn_implementation: str | None = None
    """Attention of the language model by transformers' name: sdpa, eager, flash_attention_2 where it is installed."""
    compile: Switch = False
    """Compile the language model (torch.compile)."""
    quantize: str | None = None
    """4bit or 8bit: hold the layers of a language model of the hub so; needs a GPU."""
    offline: Switch = False
    """Use no network."""


def main() -> int:
    """Analyse what the command line names; returns the exit code."""
    config = parse(InferenceConfig, prog="inference.py", description=__doc__ or "", positional="paths")
    if config.offline:
        os.environ["FFAA_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
    model_dir = model_folder(config.method, config.model)
    from ffaa.methods import load_method
    from ffaa.reporting.pictures import Pictures
    from ffaa.reporting.text import format_finding

    pictures = Pictures(config.paths, **{k: getattr(config, k) for k in ("crop", "all_faces", "question", "device")})
    told = ("checkpoint", "generate_num", "seed", "device", "dtype", "attn_implementation", "compile", "quantize")
    method = load_method(config.method, model_dir=model_dir, **{k: getattr(config, k) for k in told})
    heat_maps = config.out if config.visualize else None
    failed = 0
    for finding in pictures.analyse(method, batch_size=config.batch_size, heat_maps=heat_maps):
        failed += finding.error is not None
        print(json.dumps(finding.to_json()) if config.json else format_finding(finding), flush=True)
    return EXIT_PARTIAL if failed else EXIT_DONE


if __name__ == "__main__":
    run_door(main)
