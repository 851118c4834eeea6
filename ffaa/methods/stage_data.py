"""What a stage of training is given: its sets, read and checked before any model is built."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ffaa.data.formats import TrainingSet, read_training_set
from ffaa.data.preflight import require_files
from ffaa.methods.stage_config import StageConfig
from ffaa.runtime import atomic_write_text

DATA_FILE = "data.json"
"""What a stage was trained on, beside its result."""


@dataclass(frozen=True)
class StageData:
    """What is trained on, and what is validated on."""

    train: TrainingSet
    validation: TrainingSet | None

    @property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each set's file, by the option that names it."""
        return {"data": self.train.sha256, **({"validation": self.validation.sha256} if self.validation else {})}

    def write_facts(self, folder: Path) -> None:
        """Write ``data.json``: of each set its file, its sha256 and how many records it has."""
        facts = {
            use: {"file": one.file.as_posix(), "sha256": one.sha256, "records": len(one.records)}
            for use, one in (("train", self.train), ("validation", self.validation))
            if one is not None
        }
        atomic_write_text(folder / DATA_FILE, json.dumps(facts, indent=2) + "\n")


def read_stage_data(config: StageConfig, name: str) -> StageData:
    """The sets of a stage; option ``image_folder`` says what the pictures of published files are relative to.

    Args:
        config: of the stage.
        name: the file that is read of a folder.

    Raises:
        InputError: as `read_training_set`, or files that records name are not there; all of them are then listed in
            ``missing_pictures.txt`` in the stage's output folder.
    """
    folder = config.folder_option("image_folder")
    train = read_training_set(config.data, name, folder)
    validation = read_training_set(config.validation, name, folder) if config.validation else None
    require_files([one for one in (train, validation) if one], config.output)
    return StageData(train, validation)
