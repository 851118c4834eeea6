"""Pictures with labelled answers for the training of MIDS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ffaa.data.degradations import augment_for_mids
from ffaa.data.images import inside, open_image, open_mask
from ffaa.methods.ffaa.mids import IGNORED_LABEL, MidsProcessor
from ffaa.methods.ffaa.mids_cache import MidsCache
from ffaa.methods.ffaa.mids_masks import UNKNOWN
from ffaa.types import InputError, Record, Verdict

PICTURE_LABELS = {"real": 0, "fake": 1}
ANSWER_CLAIMS = {Verdict.REAL: 0, Verdict.FAKE: 1}


class MidsExample(TypedDict):
    """One picture: ``pixel_values`` (3, S, S) float32, A answers as written, A labels in 0..3 or -1.

    ``path`` in place of ``pixel_values``, where the collator opens pictures. ``mask`` (patches,) float32, where it is
    asked for: the edited share of each patch, or ``mids_masks.UNKNOWN``.
    """

    pixel_values: NotRequired[Tensor]
    path: NotRequired[Path]
    answers: list[str]
    labels: list[int]
    mask: NotRequired[Tensor]


def answer_label(picture: str, result: str) -> int:
    """2 * (picture is fake) + (answer says fake); -1, which the loss leaves out, where the answer says neither.

    Raises InputError when ``picture`` is not ``real`` or ``fake``.
    """
    if picture not in PICTURE_LABELS:
        raise InputError(f"a picture is real or fake, not {picture!r}")
    if result not in ANSWER_CLAIMS:
        return IGNORED_LABEL
    return 2 * PICTURE_LABELS[picture] + ANSWER_CLAIMS[Verdict(result)]


def record_labels(record: Record, num_answers: int) -> list[int]:
    """The labels of a record's answers, in order.

    Raises InputError naming the record when it has not ``num_answers`` answers, an answer lacks its text or result, or
    a stored label contradicts the picture's label and the answer's result.
    """
    if len(record.answers) != num_answers:
        raise InputError(f"record {record.id!r} has {len(record.answers)} answers, MIDS is trained on {num_answers}")
    labels = []
    for number, answer in enumerate(record.answers):
        if not isinstance(answer.get("content"), str) or "result" not in answer:
            raise InputError(f"record {record.id!r}, answer {number}: needs 'content' and 'result'")
        label = answer_label(record.label, str(answer["result"]))
        if answer.get("label", label) != label:
            raise InputError(
                f"record {record.id!r}, answer {number}: label {answer['label']} for a {record.label} picture "
                f"whose answer says {answer['result']}; expected {label}"
            )
        labels.append(label)
    return labels


class MidsDataset(Dataset[MidsExample]):
    """Records with answers, their pictures read below ``root``.

    With ``augment``, picture ``index`` in epoch ``epoch`` (``set_epoch``, called by the Trainer's data loader) is
    degraded by random numbers of (seed, epoch, index) alone, so a resumed or re-sharded run sees the same ones. All
    records are checked at once; InputError names the first bad one. With ``patches``, the tower's patches along a side,
    examples have their ``mask``. Without ``opens`` the collator opens pictures, those that its cache does not know.
    """

    def __init__(
        self,
        records: Sequence[Record],
        root: Path,
        processor: MidsProcessor,
        augment: bool = False,
        seed: int = 0,
        patches: int | None = None,
        opens: bool = True,
    ) -> None:
        if not records:
            raise InputError("no records to train MIDS on")
        self.records = records
        self.processor = processor
        self.augment = augment
        self.seed = seed
        self.patches = patches
        self.opens = opens
        self.epoch = 0
        self.root = root
        self.paths = [inside(root, record.image) for record in records]
        self.labels = [record_labels(record, processor.config.num_answers) for record in records]

    def set_epoch(self, epoch: int) -> None:
        """Draw other augmentations from now on."""
        self.epoch = epoch

    @property
    def lengths(self) -> list[int]:
        """Characters of each picture's longest answer, to which the others are padded."""
        return [max(len(str(answer["content"])) for answer in record.answers) for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def picture(self, index: int) -> Image.Image:
        """The picture as MIDS is to see it, before resizing."""
        image = open_image(self.paths[index])
        if not self.augment:
            return image
        rng = np.random.default_rng((self.seed, self.epoch, index))
        return Image.fromarray(augment_for_mids(np.asarray(image), rng))

    def __getitem__(self, index: int) -> MidsExample:
        answers = [str(answer["content"]) for answer in self.records[index].answers]
        example: MidsExample = {"answers": answers, "labels": self.labels[index]}
        if self.opens:
            example["pixel_values"] = self.processor.image(self.picture(index))
        else:
            example["path"] = self.paths[index]
        if self.patches is not None:
            example["mask"] = self._mask(self.records[index], self.patches)
        return example

    def _mask(self, record: Record, patches: int) -> Tensor:
        """No augmentation moves a pixel, so that the mask fits the degraded picture too."""
        if record.label == "real":
            return torch.zeros(patches**2)
        if not record.masks:
            return torch.full((patches**2,), UNKNOWN)
        masks = [open_mask(inside(self.root, mask)) for mask in record.masks]
        return torch.stack([self.processor.mask(mask, patches) for mask in masks]).amax(0)


class MidsCollator:
    """Batches ``MidsExample``s into the arguments of ``Mids.forward``; texts are padded to the longest of the batch."""

    def __init__(self, processor: MidsProcessor, cache: MidsCache | None = None) -> None:
        self.processor = processor
        self.cache = cache

    def __call__(self, examples: Sequence[MidsExample]) -> dict[str, Any]:
        """``pixel_values`` (B, 3, S, S), ``input_ids`` and ``attention_mask`` (B, A, L), ``labels`` (B, A) int64.

        ``masks`` (B, patches) float32 where the examples have them. With a cache, what ``MidsCache`` looks up.
        """
        input_ids, attention_mask = self.processor.texts([example["answers"] for example in examples])
        # First what has as many items as the batch: a Trainer reads its size there.
        batch: dict[str, Any] = {
            "labels": torch.tensor([example["labels"] for example in examples]),
            "input_ids": input_ids,
            "attention_mask": attention_mask,
        }
        if "pixel_values" in examples[0]:
            batch["pixel_values"] = torch.stack([example["pixel_values"] for example in examples])
        elif self.cache is not None:
            batch.update(self.cache.look_up_pictures([example["path"] for example in examples]))
        if self.cache is not None:
            batch.update(self.cache.look_up_texts(input_ids, attention_mask))
        if "mask" in examples[0]:
            batch["masks"] = torch.stack([example["mask"] for example in examples])
        return batch
