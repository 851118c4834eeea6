"""Published weights in: to a checkpoint of this project, or to plain Hugging Face. Ours out: to plain Hugging Face.

What comes in is a LLaVA in the layout of the original code (merged, or LoRA adapters with ``--base``), one of
transformers, or a selector ``mids.pth``. What became of every tensor is printed and written to ``conversion.json`` in
the output. The output takes its place in one step, whole or not at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ffaa.config import Switch, dump_yaml, load_yaml, model_folder, parse
from ffaa.runtime import EXIT_DONE, atomic_write_text, git_revision, run_door, sha256_file
from ffaa.types import InputError

if TYPE_CHECKING:
    import torch

    from ffaa.backbones.llava_convert import Account
    from ffaa.methods.ffaa.method import FfaaConfig
    from ffaa.methods.ffaa.mids import MidsConfig

REPORT = "conversion.json"


@dataclass(frozen=True)
class Options:
    source: str = ""
    """Folder, or id of the hub whose files were fetched: what is converted. May be left out with --mids."""
    out: Path = Path()
    """Folder that is made."""
    to: Literal["checkpoint", "hf"] = "checkpoint"
    """checkpoint: this project's (--checkpoint of the programs); hf: a plain folder for transformers and servers."""
    base: str | None = None
    """Folder or hub id of what LoRA adapters in --source were trained on."""
    mids: Path | None = None
    """Published selector; default: mids.pth in --source, where there is one."""
    model: str = "mistral"
    """Folder configs/ffaa/<model>/: layout of the conversation, and the towers beneath the selector."""
    vision_tower: str | None = None
    """Folder or hub id of the image tower, for a LLaVA that brings none."""
    dtype: Literal["keep", "float32", "bfloat16", "float16"] = "keep"
    """Of the language model's weights; keep: as they are."""
    shard_gb: float = 5.0
    """Most gigabytes (10^9 bytes) of an output file."""
    mids_padding_mask: Switch = False
    """Keep padding out of the selector's attention; the published weights were trained and scored without."""
    mids_mask_answers: Switch = True
    """Show the selector description and reasoning alone, as the published evaluation does."""
    mids_channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order of the colours that the selector sees: rgb in the published evaluation, bgr in its training."""

    def __post_init__(self) -> None:
        if not self.source and (self.mids is None or self.to == "hf"):
            raise InputError("give what is to be converted: --source, or --mids for a selector alone")
        if self.mids is not None and self.to == "hf":
            raise InputError("a plain folder (--to hf) holds no selector: leave out --mids, or --to checkpoint")
        if self.out == Path():
            raise InputError("give the folder that is to be made: --out")
        if not self.shard_gb > 0:
            raise InputError(f"shard_gb must be above 0, not {self.shard_gb}")


def find_source(name: str) -> Path:
    """The folder of a source; raises InputError where it is not there."""
    from ffaa.backbones.identity import local_folder

    found = local_folder(name)
    if found is None and Path(name).is_file():
        raise InputError(f"{name} is a file; --source takes the folder that it lies in, --mids a selector's file")
    if found is None:
        raise InputError(f"no such folder: {name}; models of the hub are fetched first (python -m ffaa.assets fetch)")
    return found


def check_place(out: Path, sources: list[Path]) -> None:
    """Refuse to write over anything but an earlier output of this program."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file")
    if out.is_dir() and any(out.iterdir()) and not (out / REPORT).is_file():
        raise InputError(f"{out} is not empty and was not made by this program; give another --out")
    for source in sources:
        if source.resolve() == out.resolve() or out.resolve() in source.resolve().parents:
            raise InputError(f"--out {out} would take the place of its own source {source}")
        if source.resolve() in out.resolve().parents:
            raise InputError(f"--out {out} lies in its own source {source}")


def convert(options: Options, config: FfaaConfig, new: Path) -> dict[str, Account]:
    """Fill the folder ``new``; what became of the tensors of each part."""
    from ffaa.backbones.llava_convert import convert_llava

    dtype = dtype_of(options.dtype)
    shard_bytes = int(options.shard_gb * 1e9)
    if options.to == "hf":
        return {"mllm": to_plain_folder(options, config, new, dtype, shard_bytes)}
    accounts: dict[str, Account] = {}
    source = find_source(options.source) if options.source else None
    if source is not None and (source / "mllm").is_dir():
        raise InputError(f"{source} is a checkpoint of this project already; --to hf takes it out")
    mids = selector_file(options)
    selector = convert_selector(options, config, mids, new, accounts) if mids else None
    if source is not None:
        (new / "mllm").mkdir()
        accounts["mllm"] = convert_llava(
            source,
            new / "mllm",
            base=find_source(options.base) if options.base else None,
            vision_tower=options.vision_tower,
            template=config.mllm.template,
            dtype=dtype,
            shard_bytes=shard_bytes,
        )
        write_facts(options, config, selector, new)
    return accounts


def selector_file(options: Options) -> Path | None:
    """The published selector that is converted: what ``--mids`` names, or what lies in the source; None without one."""
    if options.mids is not None or options.to == "hf" or not options.source:
        return options.mids
    beside = find_source(options.source) / "mids.pth"
    return beside if beside.is_file() else None


def convert_selector(
    options: Options, config: FfaaConfig, file: Path, new: Path, accounts: dict[str, Account]
) -> MidsConfig:
    """Write the part ``mids``; its configuration as recorded."""
    from ffaa.methods.ffaa.convert import as_published, convert_mids

    wanted = as_published(
        config.mids,
        padding_mask=options.mids_padding_mask,
        mask_answers=options.mids_mask_answers,
        channel_order=options.mids_channel_order,
    )
    recorded, accounts["mids"] = convert_mids(file, new / "mids", wanted)
    return recorded


def to_plain_folder(
    options: Options, config: FfaaConfig, new: Path, dtype: torch.dtype | None, shard_bytes: int
) -> Account:
    """A published LLaVA, or the language model of a checkpoint of this project, as transformers loads it."""
    from ffaa.backbones.export import check_export, export_model
    from ffaa.backbones.llava_convert import convert_llava
    from ffaa.methods.checkpoint import bases_beneath, on_its_bases

    source = find_source(options.source)
    base = find_source(options.base) if options.base else None
    if (source / "mllm").is_dir():
        if base is not None:
            raise InputError("a checkpoint of this project stands on the base that its model.yaml names, not on --base")
        with on_its_bases(source, bases_beneath(config.mllm, source)):
            account = export_model(config.mllm, source, new, dtype=dtype, shard_bytes=shard_bytes)
    else:
        account = convert_llava(
            source,
            new,
            base=base,
            vision_tower=options.vision_tower,
            template=config.mllm.template,
            dtype=dtype,
            shard_bytes=shard_bytes,
        )
    check_export(new)
    return account


def write_facts(options: Options, config: FfaaConfig, selector: MidsConfig | None, new: Path) -> None:
    """``checkpoint.json`` and ``model.yaml``: what the checkpoint says of itself."""
    from transformers import AutoProcessor, GenerationConfig

    from ffaa.backbones.templates import OWN, TEMPLATES, own_template
    from ffaa.methods.checkpoint import CHECKPOINT_FILE, CHECKPOINT_FORMAT, describe_bases, layout_hash
    from ffaa.methods.ffaa.method import mids_bases

    processor = AutoProcessor.from_pretrained(new / "mllm")
    end = GenerationConfig.from_pretrained(new / "mllm").eos_token_id
    template = config.mllm.template
    layout = own_template(processor) if template == OWN else TEMPLATES[template]
    facts = {
        "format": CHECKPOINT_FORMAT,
        "method": "ffaa" if selector else "llava",
        "model": options.model,
        "git_revision": git_revision(),
        "converted_from": told(options.source),
        "bases": describe_bases(mids_bases(selector)) if selector else {},
        "conversation": layout_hash(layout, end, processor.tokenizer),
    }
    atomic_write_text(new / CHECKPOINT_FILE, json.dumps(facts, indent=2) + "\n")
    values: dict[str, Any] = {"mllm": config.mllm, "max_new_tokens": config.max_new_tokens}
    if selector:
        values |= {"mids": selector, "generate_num": config.generate_num}
    dump_yaml(values, new / "model.yaml")


def told(source: str | None) -> str | None:
    """A source for those who read of it elsewhere: the id on the hub, or the folder's name without its path."""
    return Path(source).name if source and Path(source).exists() else source or None


def dtype_of(name: str) -> torch.dtype | None:
    """The precision of this name; None for ``keep``."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}.get(name)


def write_report(accounts: dict[str, Account], options: Options, new: Path) -> None:
    """``conversion.json``: every tensor of the source by name, and the hashes of the written weights."""
    mids = selector_file(options)
    report = {
        "source": told(options.source),
        "base": told(options.base),
        "mids": mids.name if mids else None,
        "git_revision": git_revision(),
        "parts": {name: vars(account) for name, account in accounts.items()},
        "sha256": {file.relative_to(new).as_posix(): sha256_file(file) for file in sorted(new.rglob("*.safetensors"))},
    }
    atomic_write_text(new / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def main() -> int:
    options = parse(Options, prog="convert_checkpoint.py", description=__doc__ or "")
    from ffaa.methods.ffaa.method import FfaaConfig
    from ffaa.training.state import made_beside

    config = load_yaml(model_folder("ffaa", options.model) / "model.yaml", FfaaConfig)
    places = [find_source(name) for name in (options.source, options.base) if name]
    check_place(options.out, [*places, *([options.mids] if options.mids else [])])
    with made_beside(options.out) as new:
        accounts = convert(options, config, new)
        write_report(accounts, options, new)
    for name, account in accounts.items():
        print(f"{name}: " + "\n".join(account.lines()))
    size = sum(path.stat().st_size for path in options.out.rglob("*.safetensors")) / 1e9
    print(f"{options.out}: {size:.3f} GB; every tensor by name: {options.out / REPORT}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
