from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffaa.dialogue.answers import canonical_type, format_answer, mask, parse
from ffaa.types import Answer, Hypothesis, Verdict

REAL_ANSWER = (
    "Image description: A bright, sharp face turned to the left.\n"
    "Forgery reasoning: Skin and light continue over the jaw. Nothing disagrees.\n"
    "Analysis result: real\n"
    "Probability: 0.95\n"
    "Forgery type: None"
)
FAKE_ANSWER = (
    "Image description: A dim face with closed lips.\n"
    "Forgery reasoning: A seam runs below the brows.\n"
    "Analysis result: fake\n"
    "Probability: 0.9\n"
    "Forgery type: Identity swap"
)


def test_the_five_fields_are_read() -> None:
    answer = parse(FAKE_ANSWER, question="why?", hypothesis=Hypothesis.FAKE, finished=False, score=0.8)
    assert answer == Answer(
        text=FAKE_ANSWER,
        verdict=Verdict.FAKE,
        question="why?",
        hypothesis=Hypothesis.FAKE,
        description="A dim face with closed lips.",
        reasoning="A seam runs below the brows.",
        probability=0.9,
        forgery_type="Identity swap",
        finished=False,
        score=0.8,
    )
    assert parse(REAL_ANSWER).verdict is Verdict.REAL
    assert parse(REAL_ANSWER).forgery_type == "None"


@pytest.mark.parametrize(
    "line",
    [
        "Analysis result: fake",
        "Analysis result:fake",
        "Analysis result : fake",
        "ANALYSIS RESULT: FAKE",
        "  analysis   result:\tFake.",
        "**Analysis result:** fake",
        "**Analysis result**: fake",
        "**Analysis result: fake**",
        "* **Analysis result**: **Fake**",
        "- Analysis result: fake",
        "• Analysis result: fake",
        "### Analysis result: fake",
        "> Analysis result: `fake`",
        "3. Analysis result: fake",
        "(3) Analysis result: fake",
        'Analysis result: "fake".',
        "Analysis result：fake",
        "Analysis result:\n\n  fake",
        "Analysis result: fake\nFinal result: unsure",
        "Analysis result: fake\nAnalysis result: real",
        "Analysis result: fake\r\nProbability: 0.5\r\n",
    ],
)
def test_layout_does_not_hide_a_verdict(line: str) -> None:
    assert parse(f"Image description: a\nForgery reasoning: b\n{line}").verdict is Verdict.FAKE


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "fake",
        "The face is fake.",
        "Analysis result",
        "Analysis result:",
        "Analysis result: ",
        "Analysis result: r",
        "Analysis result: unknown",
        "Analysis result: real?",
        "Analysis result: real or fake",
        "Analysis result: real | fake",
        "Analysis result: real/fake",
        "Analysis result: realistic",
        "Analysis result: 1",
        "Analysis result: <real or fake>",
        "Analysis result: unsure\nAnalysis result: real",
        "Final result: real",
        "result: real",
        "My Analysis result: real",
        "The analysis result: fake",
        "Analysis result real",
        "Image description: x Analysis result: fake",
        "Forgery reasoning: Analysis result: fake",
        "Analysis\nresult: fake",
        "Forgery type: fake\nProbability: 0.99",
    ],
)
def test_a_verdict_is_never_guessed(text: str) -> None:
    assert parse(text).verdict is Verdict.UNPARSED


def test_values_run_to_the_next_field() -> None:
    answer = parse(
        "Sure, here it is.\nImage description: one\n  two\n\nthree\nForgery reasoning:\n1. seam\n2. blur: strong\n"
        "Analysis result: fake\nso it is\nProbability: 90 %\nnote\nForgery type: Face  blending\nBye."
    )
    assert (answer.description, answer.reasoning) == ("one two three", "1. seam 2. blur: strong")
    assert (answer.verdict, answer.probability, answer.forgery_type) == (Verdict.FAKE, 0.9, "Face blending")


def test_the_first_occurrence_counts_and_a_repeat_ends_the_field_before() -> None:
    answer = parse(f"{REAL_ANSWER}\nImage description: another\n{FAKE_ANSWER}\nmore")
    assert answer.verdict is Verdict.REAL
    assert answer.description == "A bright, sharp face turned to the left."
    assert answer.forgery_type == "None"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.95", 0.95), ("0.95.", 0.95), (".5", 0.5), ("1", 1.0), ("0", 0.0), ("1.0", 1.0), ("95%", 0.95),
        ("95 %.", 0.95),
        ("**0.7**", 0.7), ("1.5", None), ("95", None), ("-0.5", None), ("high", None), ("0.9 or so", None), ("", None),
        ("nan", None), ("inf", None), ("1e-3", None), ("0,9", None), ("٠.٥", None), ("120%", None),
    ],
)  # fmt: skip
def test_probability(value: str, expected: float | None) -> None:
    assert parse(f"Analysis result: real\nProbability: {value}\nForgery type: None").probability == expected


def test_mask_keeps_description_and_reasoning_only() -> None:
    expected = "Image description: A dim face with closed lips.\nForgery reasoning: A seam runs below the brows."
    assert mask(FAKE_ANSWER) == expected
    assert mask(parse(FAKE_ANSWER)) == expected
    assert mask("It is fake.") == "Image description: \nForgery reasoning: "


@pytest.mark.parametrize("verdict", [Verdict.UNPARSED, "maybe"])
def test_no_answer_without_a_verdict_is_written(verdict: Verdict) -> None:
    with pytest.raises(ValueError, match="real or fake"):
        format_answer("a", "b", verdict, 0.5, None)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_no_answer_with_an_impossible_probability_is_written(probability: float) -> None:
    with pytest.raises(ValueError, match="within 0..1"):
        format_answer("a", "b", Verdict.REAL, probability, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None), ("", None), ("None", "none"), ("none.", "none"), ("**Identity swap**", "identity swap"),
        ("Face-Swap", "identity swap"), ("entire_face  Synthesis", "entire face synthesis"), ("N/A", "none"),
        ("Something new", "something new"),
    ],
)  # fmt: skip
def test_types_are_compared_under_one_name(text: str | None, expected: str | None) -> None:
    assert canonical_type(text) == expected


values = st.text(max_size=200)


@settings(max_examples=300, deadline=None)
@given(values, values, st.sampled_from([Verdict.REAL, Verdict.FAKE]), st.integers(0, 10_000), values)
def test_what_is_written_is_read_back(
    description: str, reasoning: str, verdict: Verdict, probability: int, forgery_type: str
) -> None:
    text = format_answer(description, reasoning, verdict, probability / 10_000, forgery_type)
    answer = parse(text)
    assert len(text.splitlines()) == 5
    assert answer.description == " ".join(description.split())
    assert answer.reasoning == " ".join(reasoning.split())
    assert answer.verdict is verdict
    assert answer.probability == pytest.approx(probability / 10_000)
    assert answer.forgery_type == (" ".join(forgery_type.split()) or (None if forgery_type else "None"))
    assert parse(mask(text)).verdict is Verdict.UNPARSED


@settings(max_examples=500, deadline=None)
@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert parse(text).text == text


def says(text: str) -> set[str]:
    """The verdict words on lines that hold "analysis" at all: an oracle much laxer than the parser."""
    return {word for line in text.splitlines() for word in ("real", "fake") if word in line.casefold()}


def mutate(text: str, rng: random.Random) -> str:
    """One hostile change: cut, repeat, swap, insert, case, dropped or shuffled lines."""
    junk = [
        "\x00", "\u2028", "**", ":", ": ", "\n", "\r", "```", "<|im_end|>", "Analysis result:", "real", "fake", "\t",
        "real fake", "\udcff", "\U0001f600", "\ufb01", "{}", "%s", "\\", "Probability: 1e999", "\u202e",
        "Analysis result: maybe\n",
    ]  # fmt: skip
    at, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    match rng.randrange(8):
        case 0:
            return text[:at]
        case 1:
            return text[at:]
        case 2:
            return text[:at] + rng.choice(junk) + text[at:]
        case 3:
            return text[:at] + text[end:]
        case 4:
            return text[:end] + text[at:]
        case 5:
            return text[:at] + text[at:end].swapcase() + text[end:]
        case 6:
            lines = text.split("\n")
            rng.shuffle(lines)
            return "\n".join(lines)
        case _:
            return text[:at] + "".join(rng.sample(text[at:end], end - at)) + text[end:]


def test_ten_thousand_mutated_answers() -> None:
    rng = random.Random(0)
    seen = dict.fromkeys(Verdict, 0)
    for _ in range(10_000):
        text = rng.choice([REAL_ANSWER, FAKE_ANSWER])
        for _ in range(rng.randrange(1, 7)):
            text = mutate(text, rng)
        answer = parse(text)
        seen[answer.verdict] += 1
        assert answer.text == text
        assert answer.probability is None or 0.0 <= answer.probability <= 1.0
        if answer.verdict is not Verdict.UNPARSED:
            assert str(answer.verdict) in says(text)
            # The verdict stands on its own in the text and goes away with its field.
            assert parse(text.casefold().replace("analysis", "a")).verdict is Verdict.UNPARSED
    assert min(seen.values()) > 1000


@pytest.mark.parametrize("cut", range(0, len(FAKE_ANSWER) + 1))
def test_a_cut_answer_has_its_verdict_or_none(cut: int) -> None:
    complete = FAKE_ANSWER.index("fake") + len("fake")
    assert parse(FAKE_ANSWER[:cut], finished=False).verdict is (Verdict.FAKE if cut >= complete else Verdict.UNPARSED)


@pytest.mark.parametrize(
    "text",
    [
        "*" * 100_000,
        " " * 100_000,
        "- " * 50_000,
        "1. " * 33_000,
        "Analysis" + " " * 100_000 + "result",
        "Analysis result" + " *" * 50_000,
        "Analysis result: " + "real " * 20_000,
        "Analysis result: " + "." * 100_000,
        "Probability: " + "9" * 100_000,
        "Probability: 0." + "9" * 100_000,
        "Probability: " + "." * 100_000,
        "Analysis result:\n" * 6_000,
        "Image description: x\n" * 5_000,
        "\n" * 100_000,
        "_*" * 50_000 + "Analysis result: maybe",
        "Forgery type: " + "a " * 50_000,
    ],
)  # fmt: skip
def test_long_hostile_answers_are_read_in_linear_time(text: str) -> None:
    start = time.perf_counter()
    answer = parse(text)
    mask(answer)
    canonical_type(answer.forgery_type)
    assert time.perf_counter() - start < 1.0
    assert answer.verdict is Verdict.UNPARSED
