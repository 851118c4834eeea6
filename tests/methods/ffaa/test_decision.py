import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffaa.methods.ffaa.decision import decide, fake_probability, match_logit
from ffaa.metrics.calibration import sigmoid
from ffaa.types import InputError, Verdict

REAL, FAKE, UNPARSED = Verdict.REAL, Verdict.FAKE, Verdict.UNPARSED
rows = st.lists(st.floats(-30, 30), min_size=4, max_size=4)
answers = st.lists(st.tuples(rows, st.sampled_from(list(Verdict))), min_size=1, max_size=5)


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


@given(rows)
def test_match_scores_are_the_published_ratios_of_the_softmax(row: list[float]) -> None:
    p = softmax(row)
    assert decide([row], [REAL]).match_scores[0] == pytest.approx(p[0] / (p[0] + p[2]), abs=1e-9)
    assert decide([row], [FAKE]).match_scores[0] == pytest.approx(p[3] / (p[3] + p[1]), abs=1e-9)
    assert fake_probability(row) == pytest.approx(p[2] + p[3], abs=1e-9)


@given(answers, st.randoms())
def test_order_of_answers_changes_neither_score_nor_verdict(pairs: list, random) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    one = decide([row for row, _ in pairs], [verdict for _, verdict in pairs])
    other = decide([row for row, _ in shuffled], [verdict for _, verdict in shuffled])
    assert sorted(one.match_scores, key=str) == sorted(other.match_scores, key=str)
    margins = [match_logit(row, verdict) for row, verdict in pairs if verdict is not UNPARSED]
    if margins.count(max(margins, default=0)) <= 1:
        assert other.verdict is one.verdict
        assert other.score == pytest.approx(one.score, abs=1e-12)


@given(answers)
def test_score_and_match_scores_are_probabilities_and_agree(pairs: list) -> None:
    decision = decide([row for row, _ in pairs], [verdict for _, verdict in pairs])
    assert 0 <= decision.score <= 1
    assert [match is None for match in decision.match_scores] == [verdict is UNPARSED for _, verdict in pairs]
    parsed = [match for match in decision.match_scores if match is not None]
    if parsed:
        chosen = decision.match_scores[decision.chosen]
        assert chosen == max(parsed)
        assert decision.verdict is pairs[decision.chosen][1]
        assert decision.score == pytest.approx(chosen if decision.verdict is FAKE else 1 - chosen, abs=1e-12)
    else:
        assert (decision.verdict, decision.chosen) == (UNPARSED, 0)


def test_golden() -> None:
    logits = [[2.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0]]
    decision = decide(logits, [REAL, FAKE, REAL])
    assert decision.match_scores == pytest.approx((0.7310586, 0.8807971, 0.5))
    assert (decision.chosen, decision.verdict) == (1, FAKE)
    assert decision.score == pytest.approx(0.8807971)
    assert decide(logits[:1], [REAL]).score == pytest.approx(1 - 0.7310586)


def test_first_of_equal_answers_wins_even_where_all_are_surely_wrong() -> None:
    row = [-50.0, 0.0, 50.0, 0.0]
    assert decide([row, row, row], [REAL, REAL, REAL]).chosen == 0
    # both scores round to 1, yet the surer one is chosen
    sure, surer = [100.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 200.0]
    assert decide([sure, surer], [REAL, FAKE]).chosen == 1


def test_unparsed_answers_are_left_out() -> None:
    logits = [[0.0, 0.0, 0.0, 9.0], [1.0, 0.0, 0.0, 0.0]]
    decision = decide(logits, [UNPARSED, REAL])
    assert (decision.chosen, decision.verdict, decision.match_scores[0]) == (1, REAL, None)
    nothing = decide([[0.0, 0.0, 0.0, math.log(5)], [0.0] * 4], [UNPARSED, UNPARSED])
    assert nothing.verdict is UNPARSED
    assert nothing.score == pytest.approx((0.75 + 0.5) / 2)
    assert nothing.match_scores == (None, None)


def test_extreme_logits_do_not_overflow() -> None:
    assert (sigmoid(1e4), sigmoid(-1e4)) == (1.0, 0.0)
    assert fake_probability([-1e4, 0.0, 1e4, 0.0]) == 1.0


@pytest.mark.parametrize(("logits", "verdicts"), [([], []), ([[0.0] * 4], []), ([[0.0] * 3], [REAL])])
def test_malformed_input(logits: list, verdicts: list) -> None:
    with pytest.raises(InputError):
        decide(logits, verdicts)
    with pytest.raises(InputError, match="unparsed"):
        match_logit([0.0] * 4, UNPARSED)
