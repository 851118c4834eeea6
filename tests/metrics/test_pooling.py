from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import trim_mean

from ffaa.metrics.detection import summarize
from ffaa.metrics.pooling import pool_frames, trimmed_mean
from tests.metrics.test_detection import line


def test_ten_of_a_hundred_are_left_out_at_either_end() -> None:
    values = np.random.default_rng(0).random(100)
    assert trimmed_mean(values) == pytest.approx(np.sort(values)[10:90].mean())


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 20, 37])
@pytest.mark.parametrize("trim", [0.0, 0.1, 0.25, 0.4])
def test_equals_scipy(n: int, trim: float) -> None:
    values = np.random.default_rng(n).random(n)
    assert trimmed_mean(values, trim) == pytest.approx(trim_mean(values, trim + 1e-12))


def test_degenerate() -> None:
    assert trimmed_mean([]) is None and trimmed_mean([0.3]) == 0.3
    with pytest.raises(ValueError, match="below 0.5"):
        trimmed_mean([1.0], 0.5)


def frame(group: str | None, label: str, score: float) -> dict[str, Any]:
    return {**line(label, ["fake" if score > 0.5 else "real"], score=score), "group": group}


def test_every_video_is_scored_with_its_own_label() -> None:
    """The published loop never scores the last video and takes each label from the one after it."""
    frames = [frame("a", "real", 0.1), frame("a", "real", 0.3), frame("b", "fake", 0.9), frame("c", "real", 0.6)]
    pooled = pool_frames([*frames, frame(None, "fake", 0.2)])
    assert [(one["group"], one["label"], one["n"]) for one in pooled] == [
        ("a", "real", 2), ("b", "fake", 1), ("c", "real", 1),
    ]  # fmt: skip
    assert [one["mean"] for one in pooled] == pytest.approx([0.2, 0.9, 0.6])


def test_a_summary_has_videos_and_intervals_by_video() -> None:
    frames = [frame(f"{v}", label, s) for v, (label, s) in enumerate([("real", 0.4), ("fake", 0.8)] * 6) for _ in "abc"]
    frames[0] = frame("0", "real", 0.99)
    found = summarize([{**one, "id": str(index)} for index, one in enumerate(frames)])
    assert found["groups"]["n"] == 12 and found["groups"]["undefined"] is None
    videos = found["groups"]["videos"]["mean"]
    # .99, .4, .4 has a mean above a half: its video is called fake.
    assert (videos["n"], videos["n_correct"], videos["auc"]) == (12, 11, 1.0)
    alone = summarize([{**one, "id": str(index), "group": None} for index, one in enumerate(frames)])
    assert alone["groups"] == {"n": 0, "videos": None, "undefined": "no picture has a group"}
    wide, narrow = (one["decisions"]["method"]["accuracy_interval"] for one in (found, alone))
    assert wide[1] - wide[0] != narrow[1] - narrow[0]


def test_people_have_no_video_score() -> None:
    frames = [frame("anna", "real", 0.1), frame("anna", "fake", 0.9), frame("ben", "real", 0.2)]
    found = summarize([{**one, "id": str(index)} for index, one in enumerate(frames)])["groups"]
    assert found["n"] == 2 and found["videos"] is None and "people" in found["undefined"]
