"""Merge what stage 1 trained into its base: a plain Hugging Face folder in bfloat16 or float32.

Takes a checkpoint or the output of stage mllm. Every tensor of the adapter must find its weight, and what was written
is read back: all names, all shapes, all finite numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ffaa.config import load_yaml, model_folder, parse
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, run_door
from ffaa.types import InputError


@dataclass(frozen=True)
class Options:
    method: Literal["ffaa", "llava"] = "ffaa"
    """Whose model.yaml names the base."""
    model: str = "mini"
    """Folder configs/<method>/<model>/."""
    checkpoint: Path = PROJECT_ROOT / "playground" / "mini"
    """Checkpoint, or output of stage mllm: the folder that holds mllm/."""
    out: Path = Path()
    """Folder that is made; it may not hold anything."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the output; the sum itself is made in float32."""
    shard_gb: float = 5.0
    """Most gigabytes (10^9 bytes) of an output file."""

    def __post_init__(self) -> None:
        if self.out == Path():
            raise InputError("give the folder that is to be made: --out")
        if not self.shard_gb > 0:
            raise InputError(f"shard_gb must be above 0, not {self.shard_gb}")


def main() -> int:
    options = parse(Options, prog="merge_lora.py", description=__doc__ or "")
    import torch

    from ffaa.backbones.adapter import holds_whole_model
    from ffaa.backbones.export import check_export, export_model
    from ffaa.methods.checkpoint import bases_beneath, on_its_bases
    from ffaa.methods.ffaa.method import FfaaConfig
    from ffaa.methods.llava.method import LlavaConfig
    from ffaa.training.state import made_beside

    kinds: dict[str, type[FfaaConfig | LlavaConfig]] = {"ffaa": FfaaConfig, "llava": LlavaConfig}
    config = load_yaml(model_folder(options.method, options.model) / "model.yaml", kinds[options.method]).mllm
    if not (options.checkpoint / "mllm").is_dir():
        raise InputError(f"{options.checkpoint} holds no folder mllm with what stage 1 trained")
    if holds_whole_model(options.checkpoint / "mllm"):
        raise InputError(f"{options.checkpoint} holds a whole model, nothing is to be merged")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise InputError(f"{options.out} is there already and not an empty folder")
    if options.checkpoint.resolve() in options.out.resolve().parents:
        raise InputError(f"--out {options.out} lies in the checkpoint that it is made from")
    dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}[options.dtype]
    with made_beside(options.out) as new, on_its_bases(options.checkpoint, bases_beneath(config, options.checkpoint)):
        account = export_model(config, options.checkpoint, new, dtype=dtype, shard_bytes=int(options.shard_gb * 1e9))
        count = check_export(new)
    print("\n".join(account.lines()))
    print(f"{options.out}: {count} tensors in {options.dtype}, read back")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
