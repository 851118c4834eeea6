from __future__ import annotations

from pathlib import Path

from ffaa.dialogue.answers import format_answer, parse
from ffaa.reporting.pictures import Finding
from ffaa.reporting.text import format_analysis, format_finding
from ffaa.types import Analysis, Verdict

REAL = parse(format_answer("A face in soft light.", "Pores everywhere.", Verdict.REAL, 0.9, None))
FAKE = parse(format_answer("A face.", "Blurred jaw.", Verdict.FAKE, 0.9, "Identity swap"))


def test_the_published_form() -> None:
    analysis = Analysis(Verdict.REAL, 0.1142, (REAL, FAKE, REAL), 0, (0.8858, 0.2, 0.7))
    assert format_analysis(analysis) == (
        "Image description: A face in soft light.\n"
        "Forgery reasoning: Pores everywhere.\n"
        "Analysis result: real, Forgery type: None\n"
        "Match score: 0.8858; Difficulty: hard\n"
        "P(fake): 0.1142"
    )


def test_one_answer_has_neither_match_score_nor_difficulty() -> None:
    text = format_analysis(Analysis(Verdict.FAKE, 0.75, (FAKE,)))
    assert text.endswith("Analysis result: fake, Forgery type: Identity swap\nP(fake): 0.7500")


def test_an_answer_without_a_verdict_is_shown_as_written() -> None:
    cut = parse("Image description: a\x1b[31m face", finished=False)
    assert format_analysis(Analysis(Verdict.UNPARSED, 0.5, (cut,))) == (
        "Image description: a\N{REPLACEMENT CHARACTER}[31m face\n"
        "Analysis result: none (the answer states neither real nor fake)\n"
        "(cut at the limit of tokens)\n"
        "P(fake): 0.5000"
    )


def test_a_finding_names_its_file_and_face() -> None:
    analysis = Analysis(Verdict.FAKE, 0.75, (FAKE,))
    shown = format_finding(Finding(Path("a.jpg"), 2, 3, analysis=analysis, heat_maps=(Path("out/a_heat1.png"),)))
    assert shown.startswith("a.jpg (face 2 of 3)\nImage description")
    assert shown.endswith("\nHeat map: out/a_heat1.png\n")
    assert format_finding(Finding(Path("a.jpg"), error="no face found")) == "a.jpg\nfailed: no face found\n"


def test_an_error_that_names_a_file_sends_nothing_to_the_terminal() -> None:
    shown = format_finding(Finding(Path("a.jpg"), error="cannot read \x1b]0;title\x07.jpg"))
    assert shown == "a.jpg\nfailed: cannot read \N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}.jpg\n"


def test_a_calibrated_analysis_shows_its_probability_and_says_when_it_does_not_know() -> None:
    certain = Analysis(Verdict.FAKE, 0.75, (FAKE,), probability=0.9123, uncertain=False)
    assert format_analysis(certain).endswith("\nP(fake): 0.9123")
    unsure = Analysis(Verdict.FAKE, 0.75, (FAKE,), probability=0.55, uncertain=True)
    assert "\nP(fake): 0.5500\nUncertain: " in format_analysis(unsure)
