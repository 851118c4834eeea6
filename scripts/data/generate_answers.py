"""Let the stage-1 model answer pictures three times each, and label every answer: what MIDS is trained on.

Of the pictures whose three verdicts agree, ``--keep_equal`` are kept (the paper drops them); those with an unparsed
answer are dropped. Written in blocks: started again, it goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ffaa.config import Switch, load_yaml, model_folder, parse
from ffaa.data.images import inside, open_image
from ffaa.data.records import check_name, read_records, write_records
from ffaa.evaluation.predictions import mend
from ffaa.runtime import EXIT_DONE, PROJECT_ROOT, locked, run_door, seed_everything
from ffaa.types import InputError, Record


@dataclass(frozen=True)
class Options:
    data: Path = PROJECT_ROOT / "data" / "mini" / "mids"
    """Folder with records.jsonl; the answers are written beside it."""
    answers: str = "answers.jsonl"
    """File of the labelled answers; answers-<any>.jsonl keeps those of another model beside the first."""
    method: str = "ffaa"
    """Method whose language model answers."""
    model: str = "mini"
    """Folder configs/<method>/<model>/."""
    checkpoint: Path = PROJECT_ROOT / "runs" / "ffaa-mini" / "mllm"
    """Folder that holds the stage-1 result (mllm/)."""
    temperature: float = 0.0
    """Sampling temperature of the free answer; 0 is greedy. Answers under a hypothesis are greedy always."""
    keep_equal: float = 1.0
    """Share of pictures with three equal verdicts that is kept."""
    limit: int = -1
    """First pictures only; -1: all."""
    block_size: int = 16
    """Pictures answered together."""
    max_new_tokens: int = 160
    """Longest answer."""
    seed: int = 0
    """Seed of questions, sampling and of which equal triples are kept."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16."""
    fresh: Switch = False
    """Answer everything anew."""

    def __post_init__(self) -> None:
        check_name(self.answers, "answers")
        if self.block_size < 1:
            raise InputError(f"block_size must be at least 1, got {self.block_size}")
        if not 0 <= self.keep_equal <= 1:
            raise InputError(f"keep_equal is a share from 0 to 1, got {self.keep_equal}")
        if self.limit == 0 or self.limit < -1:
            raise InputError(f"limit must be at least 1, or -1 for all, got {self.limit}")


def asked(options: Options) -> list[Record]:
    """The records that are to be answered."""
    records = read_records(options.data / "records.jsonl", files_must_exist=True)
    return records[: options.limit if options.limit > 0 else None]


def read_triples(file: Path) -> dict[str, dict[str, Any]]:
    """Picture's id -> its last line, of a file that need not be there yet. InputError names a damaged line."""
    found = {}
    for number, text in enumerate(file.read_text().splitlines() if file.is_file() else (), 1):
        try:
            line = json.loads(text)
            found[line["id"]] = {"picture": line.get("picture"), "answers": line["answers"]}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{file}:{number} is damaged; --fresh 1 answers everything anew") from error
    return found


def answer_all(options: Options, records: Sequence[Record]) -> Path:
    """Generate what is still missing; returns the file with all triples."""
    from ffaa.backbones.adapter import load_mllm
    from ffaa.backbones.generation import GenerationSettings, TransformersEngine
    from ffaa.methods.checkpoint import base_hashes, bases_beneath
    from ffaa.methods.ffaa.method import FfaaConfig
    from ffaa.methods.ffaa.triples import generate_triples
    from ffaa.runtime import config_hash, pick_device, pick_dtype, sha256_file, sha256_folder

    blocks = [records[start : start + options.block_size] for start in range(0, len(records), options.block_size)]
    settings = load_yaml(model_folder(options.method, options.model) / "model.yaml", FfaaConfig)
    device = pick_device(options.device)
    mllm = load_mllm(settings.mllm, options.checkpoint, dtype=pick_dtype(options.dtype, device), device=device)
    # After loading, since a base of the hub is known by its files once they were fetched.
    bases = base_hashes(bases_beneath(settings.mllm, options.checkpoint), options.checkpoint)
    weights = [sha256_folder(options.checkpoint / "mllm"), bases]
    # The file is named by the model and its settings, each line by its picture: no other's answers are ever mixed in.
    made_by = [*weights, settings.mllm, options.temperature, options.max_new_tokens]
    triples = options.data / f"triples-{config_hash([*made_by, options.seed, str(mllm.model.dtype)])}.jsonl"
    if options.fresh:
        triples.unlink(missing_ok=True)
    elif cut := mend(triples):
        print(f"{triples}: cut off a torn last line of {cut} bytes")
    pictures = {record.id: sha256_file(inside(options.data, record.image)) for record in records}
    done = {id for id, line in read_triples(triples).items() if line["picture"] == pictures.get(id)}
    greedy = free = TransformersEngine(mllm, GenerationSettings(options.max_new_tokens, 0.0, options.seed))
    if options.temperature:
        free = TransformersEngine(mllm, GenerationSettings(options.max_new_tokens, options.temperature, options.seed))
    with triples.open("a") as out:
        for block in tqdm(blocks, desc="answers", unit="block"):
            if all(record.id in done for record in block):
                continue
            images = [open_image(inside(options.data, record.image)) for record in block]
            found = generate_triples(free, greedy, images, block, options.seed)
            for record, answers in zip(block, found, strict=True):
                if record.id not in done:
                    line = {"id": record.id, "picture": pictures[record.id], "answers": answers}
                    out.write(json.dumps(line) + "\n")
            out.flush()
    return triples


def main() -> int:
    options = parse(Options, prog="generate_answers.py", description=__doc__ or "")
    seed_everything(options.seed)
    from ffaa.methods.ffaa.triples import label_triples

    records = asked(options)
    with locked(options.data, ".answering"):
        answers = {id: line["answers"] for id, line in read_triples(answer_all(options, records)).items()}
    labelled, counts = label_triples(records, answers, options.keep_equal, options.seed)
    if not labelled:
        raise InputError(
            f"none of {len(records)} pictures is left ({counts}): no answer can be read, or all were equal"
        )
    write_records(options.data / options.answers, labelled)
    print(f"{len(labelled)} of {len(records)} pictures kept ({counts}) -> {options.data / options.answers}")
    return EXIT_DONE


if __name__ == "__main__":
    run_door(main)
