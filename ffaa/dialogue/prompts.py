"""What is asked of the language model, to the letter of the published FFAA: its weights depend on these texts."""

from __future__ import annotations

import hashlib

from ffaa.types import Hypothesis

SYSTEM_PROMPT = (
    "You are an AI master specialized in face forgery analysis. You'll be provided with a human face image. "
    "You need to think step by step to analyze whether the face is real or fake."
)

FREE_QUESTIONS: tuple[str, ...] = (
    "The image is a human face image. Is it real or fake? Why?",
    "The photo depicts a human face. Can you tell if it's authentic or manipulated? Please explain your reasoning.",
    "This picture shows a human face. Do you think it's genuine or counterfeit? What are your reasons?",
    "We see a human face in this image. Is it an actual photo or a fabrication? What leads you to that conclusion?",
    "There's a human face in this image. Is it original or has it been altered? Provide your justification.",
    "The picture contains a human face. Is it factual or doctored? What makes you say that?",
    "The visual shows a human face. Is this a real image or a fake one? Could you explain your assessment?",
    "In this photograph, a human face is shown. Is it natural or manipulated? What leads you to this judgement?",
    "A human face is visible in this image. Is it genuine or a forgery? On what grounds do you decide?",
    "The image features a human face. Is it authentic or fabricated? What evidence do you have?",
)
"""The ten questions that presume nothing; one per line in ``playground/prompts.txt``."""

HYPOTHESIS_QUESTIONS: dict[Hypothesis, str] = {
    Hypothesis.REAL: "This is a real human face. What evidence do you have?",
    Hypothesis.FAKE: "This is a fake human face. What evidence do you have?",
}
"""The two questions that presume a verdict (FFAA, hypothetical prompts)."""


def free_question(image_id: str, seed: int = 0) -> str:
    """The question for a picture: a fixed choice among the ten by hash of id and seed.

    The reference draws one at random without a seed, so that no run can be repeated; a hash gives the same spread of
    questions and does not depend on the order or the number of pictures.
    """
    digest = hashlib.sha256(f"{seed}:{image_id}".encode("utf-8", "surrogatepass")).digest()
    return FREE_QUESTIONS[int.from_bytes(digest[:8], "big") % len(FREE_QUESTIONS)]
