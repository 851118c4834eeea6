"""Other ways to decide from the same answers: what is taken away is gone, and nothing else changes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffaa.config import load_yaml, model_folder
from ffaa.data.benchmark import load_benchmark, write_benchmark
from ffaa.evaluation import cached_method
from ffaa.evaluation.runner import data_fingerprint
from ffaa.methods.ffaa.decision import decide
from ffaa.methods.ffaa.method import Ffaa, FfaaConfig
from ffaa.methods.ffaa.mids import build_mids, save_mids
from ffaa.types import Analysis, Answer, GeneratedText, InputError, Request, Verdict
from scripts import ablate
from tests.reporting.toy_results import Toy

REAL, FAKE, UNPARSED = Verdict.REAL, Verdict.FAKE, Verdict.UNPARSED


def analysis(
    verdicts: list[Verdict], logits: list[list[float]] | None = None, opening: float | None = None
) -> Analysis:
    answers = tuple(Answer(text="", verdict=v, opening_score=opening, score=0.3) for v in verdicts)
    rows = logits or [[0.0] * 4 for _ in verdicts]
    decision = decide(rows, verdicts)
    return Analysis(decision.verdict, decision.score, answers, decision.chosen, logits=tuple(map(tuple, rows)))


def test_fewer_answers_are_decided_as_if_no_more_had_been_written() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, 4)).tolist()
    one = analysis([REAL, FAKE, REAL], rows)
    for count in (1, 2, 3):
        alone = decide(rows[:count], [REAL, FAKE, REAL][:count])
        way = ablate.first_answers([one], count)
        assert (way.verdicts, way.scores) == ([alone.verdict], [alone.score])


def test_a_vote_of_parsed_answers() -> None:
    cases = [[FAKE, FAKE, REAL], [FAKE, REAL, UNPARSED], [UNPARSED] * 3, [REAL, UNPARSED, UNPARSED]]
    way = ablate.majority([analysis(case) for case in cases])
    assert way.verdicts == [FAKE, FAKE, UNPARSED, REAL]
    assert way.scores == pytest.approx([2 / 3, 0.5, 0.5, 0.0])


def test_the_best_selector_is_right_where_any_answer_is() -> None:
    way = ablate.best_possible([analysis([REAL, FAKE]), analysis([REAL, REAL])], ["fake", "fake"])
    assert way.verdicts == ["fake", REAL] and way.scores is None
    asked = ablate.Asked([Request(Image.new("RGB", (8, 8)))] * 2, ["fake", "real"], ["a", "b"], [])
    figures = ablate.row(asked, way, {ablate.BASE: ablate.Decided([FAKE, REAL], [0.9, 0.1])})
    assert figures["auc"] is None and figures["accuracy"] == 1.0
    assert ablate.shown("way", figures).endswith("] | – | – | – |")


def test_the_free_answer_is_scored_where_it_first_decides() -> None:
    way = ablate.free_answer([analysis([FAKE, REAL], opening=0.8), analysis([REAL, FAKE])])
    assert way.verdicts == [FAKE, REAL] and way.scores == [0.8, 0.5]
    assert ablate.free_answer([analysis([REAL, FAKE])]).scores == [0.3]


def test_what_is_taken_away_is_gone_and_the_rest_is_there() -> None:
    text = "Image description: a nose\nForgery reasoning: seams\nAnalysis result: fake\nForgery type: Face blending"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    generated = [GeneratedText(text, True, 0.9), GeneratedText("nothing to read", False, None)]
    asked = ablate.Asked([Request(noise, id="a")], ["fake"], ["a"], [generated])
    blind = ablate.without_picture(asked)
    assert len(blind.requests[0].image.getcolors() or ()) == 1 and blind.texts == asked.texts
    mute = ablate.without_text(asked)
    assert "seams" not in mute.texts[0][0].text and "result: fake" in mute.texts[0][0].text
    assert mute.texts[0][1] == generated[1] and mute.requests == asked.requests


def test_a_variant_trained_on_bgr_is_shown_both(tmp_path: Path) -> None:
    settings = load_yaml(model_folder("ffaa", "tiny") / "model.yaml", FfaaConfig).mids
    for name, order in (("as_is", "rgb"), ("bgr", "bgr")):
        changed = type(settings)(**{**vars(settings), "channel_order": order})
        save_mids(build_mids(changed), tmp_path / name / "mids")
    found = [(variant.name, variant.load("cpu").settings.channel_order) for variant in ablate.find_variants(tmp_path)]
    assert found == [("as_is", "rgb"), ("bgr", "bgr"), ("bgr (shown RGB)", "rgb")]


def test_ways_are_chosen_by_name(tmp_path: Path) -> None:
    settings = load_yaml(model_folder("ffaa", "tiny") / "model.yaml", FfaaConfig).mids
    mids = build_mids(settings)
    save_mids(mids, tmp_path / "as_is" / "mids")
    text = "Image description: a nose\nForgery reasoning: seams\nAnalysis result: fake\nForgery type: Face blending"
    picture = Request(Image.new("RGB", (32, 32)), id="a")
    asked = ablate.Asked([picture], ["fake"], ["a"], [[GeneratedText(text, True, 0.9)] * 3])

    def names(only: str) -> list[str]:
        options = ablate.Options(variants=tmp_path, device="cpu", only=only)
        return [name for name, _ in ablate.ways(asked, mids, options)]

    assert names("trained anew") == [ablate.BASE, "trained anew: as_is"]
    assert names("no MIDS") == [ablate.BASE, "no MIDS: free answer", "no MIDS: majority of three"]
    assert names("majority, picture") == [ablate.BASE, "no MIDS: majority of three", "MIDS without the picture"]
    assert len(names("")) == len(names(",")) == 9 and len(names("majority,")) == 2


def test_a_name_that_nothing_has_is_said_before_anything_is_answered(tmp_path: Path) -> None:
    for name, order in (("as_is", "rgb"), ("swapped", "bgr")):
        folder = tmp_path / name / name / "mids"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"channel_order": order}))
    both, as_is = tmp_path / "swapped", tmp_path / "as_is"
    for only in ("", "three answers", "majority, shown RGB", "trained anew: swapped (shown RGB)"):
        ablate.check_names(ablate.Options(variants=both, only=only))
    with pytest.raises(InputError, match="'majorty' in its name; there are: MIDS, three answers; .*: swapped; "):
        ablate.check_names(ablate.Options(variants=both, only="shown RGB, majorty"))
    for variants in (as_is, None):
        with pytest.raises(InputError, match="'shown RGB'"):
            ablate.check_names(ablate.Options(variants=variants, only="shown RGB"))
    with pytest.raises(InputError, match="holds no trained variant"):
        ablate.check_names(ablate.Options(variants=tmp_path))


def test_a_way_is_held_against_those_named(tmp_path: Path) -> None:
    asked = ablate.Asked(
        [Request(Image.new("RGB", (8, 8)))] * 12, ["real", "fake"] * 6, [f"{n // 2}" for n in range(12)], []
    )
    good = ablate.Decided([REAL, FAKE] * 6, [0.1, 0.9] * 6)
    poor = ablate.Decided([REAL, FAKE] * 6, [0.9, 0.1] * 6)
    figures = ablate.row(asked, good, {ablate.BASE: good, ablate.AS_IS: poor})
    assert figures["auc_gain"][ablate.BASE][0] == 0.0 and figures["auc_gain"][ablate.AS_IS][0] == 1.0
    cells = ablate.shown("way", figures).split(" | ")
    assert cells[3].startswith("+0.0") and cells[4].startswith("+100.0")
    assert ablate.shown("way", ablate.row(asked, good, {})).endswith("| – | – |")


class KeptAnswers:
    """What `load_cached` gives, without a language model."""

    def __init__(self, weights: str) -> None:
        mids = build_mids(load_yaml(model_folder("ffaa", "tiny") / "model.yaml", FfaaConfig).mids)
        self.fingerprint = {"mids": weights}
        self.method = Ffaa(None, mids, fingerprint=self.fingerprint, written_by={})
        self.asked = 0

    def answer(self, requests: list[Request]) -> list[list[GeneratedText]]:
        self.asked += len(requests)
        return [[GeneratedText("Image description: a nose\nAnalysis result: fake", True, 0.9)] * 3 for _ in requests]


def test_figures_of_other_settings_or_weights_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(tmp_path).benchmark("toy", 4)
    folder, out = tmp_path / "benchmark" / "toy", tmp_path / "toy.json"
    write_benchmark(folder, {f"{n:05d}.jpg": "fake" if n % 2 else "real" for n in range(4)})
    cached = KeptAnswers("a")

    def run(*options: str) -> None:
        monkeypatch.setattr(cached_method, "load_cached", lambda *_, **__: cached)
        arguments = ["--benchmark", str(folder), "--out", str(out), "--only", "no MIDS", "--device", "cpu"]
        # a dtype of "auto" would be another one on a CPU with bfloat16 of its own
        monkeypatch.setattr(sys, "argv", ["ablate.py", *arguments, "--dtype", "float32", *options])
        assert ablate.main() == 0

    run()
    found = json.loads(out.read_text())
    assert found["settings"]["limit"] == -1 and found["settings"]["dtype"] == "float32" and len(found["rows"]) == 3
    assert found["fingerprint"] == {"mids": "a"}
    assert found["data"] == data_fingerprint(load_benchmark(str(folder)))
    run()
    with pytest.raises(InputError, match="made with settings {'limit': -1}, not {'limit': 2}; give another --out"):
        run("--limit", "2")
    cached = KeptAnswers("b")
    with pytest.raises(InputError, match="made with fingerprint {'mids': 'a'}, not {'mids': 'b'}"):
        run()
    assert cached.asked == 0 and json.loads(out.read_text()) == found
