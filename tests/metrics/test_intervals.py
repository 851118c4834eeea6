from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ffaa.metrics import intervals
from ffaa.metrics.detection import wilson_interval
from ffaa.metrics.intervals import Pictures, group_intervals, paired_auc_difference, ranking_intervals
from ffaa.metrics.ranking import average_precision, bootstrap_intervals, ranking_statistics, roc_auc


def drawn(n_groups: int, size: int, seed: int, alike: float) -> Pictures:
    """Groups of one label whose pictures share so much of their noise."""
    rng = np.random.default_rng(seed)
    fake = np.repeat(np.arange(n_groups) % 2 == 1, size)
    noise = alike * np.repeat(rng.normal(size=n_groups), size) + (1 - alike**2) ** 0.5 * rng.normal(
        size=n_groups * size
    )
    scores = 1 / (1 + np.exp(-(fake - 0.5 + noise)))
    groups = [f"video {index}" for index in np.repeat(np.arange(n_groups), size)]
    return Pictures(fake, (scores > 0.5) == fake, scores, groups)


def test_statistics_under_weights_are_those_of_repeated_pictures() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 40), rng.integers(0, 6, 40) / 6
    weights = rng.integers(0, 3, (5, 40)).astype(float)
    found = ranking_statistics(labels, scores, weights)
    for row, auc, precision in zip(weights, found["auc"], found["average_precision"], strict=True):
        again = np.repeat(np.arange(40), row.astype(int))
        assert auc == pytest.approx(roc_auc(labels[again], scores[again]))
        assert precision == pytest.approx(average_precision(labels[again], scores[again]))
    assert np.isnan(ranking_statistics([0, 1], [0.1, 0.2], np.array([[1.0, 0.0]]))["auc"]).all()


def test_pictures_of_one_video_say_less() -> None:
    alike, apart = drawn(40, 20, 0, 0.9), drawn(40, 20, 0, 0.0)
    alone = Pictures(alike.fake, alike.right, alike.scores, [str(index) for index in range(800)])
    for name in ("accuracy", "balanced_accuracy", "auc", "average_precision"):
        wide, narrow = group_intervals(alike)[name], group_intervals(alone)[name]
        assert wide is not None and narrow is not None
        assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
        independent = group_intervals(apart)[name]
        assert independent is not None and independent[1] - independent[0] < (wide[1] - wide[0]) / 2


def test_single_pictures_as_groups_give_the_stratified_bootstrap() -> None:
    pictures = drawn(200, 1, 1, 0.0)
    assert pictures.scores is not None
    by_group, plain = group_intervals(pictures), bootstrap_intervals(pictures.fake, pictures.scores)
    for name in ("auc", "average_precision"):
        assert by_group[name] == pytest.approx(plain[name], abs=0.01)


@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_derivatives_agree_with_the_bootstrap(alike: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = drawn(300, 10, 2, alike)
    assert pictures.scores is not None
    by_bootstrap, plain = group_intervals(pictures), ranking_intervals(pictures.fake, pictures.scores)
    monkeypatch.setattr(intervals, "MANY", 0)
    by_derivative, fast = group_intervals(pictures), ranking_intervals(pictures.fake, pictures.scores)
    for name, interval in by_bootstrap.items():
        assert by_derivative[name] == pytest.approx(interval, abs=0.006), name
    for name in ("auc", "average_precision"):
        assert fast[name] == pytest.approx(plain[name], abs=0.004)


def test_intervals_do_not_depend_on_the_order() -> None:
    pictures = drawn(20, 5, 3, 0.5)
    assert pictures.scores is not None
    order = np.random.default_rng(0).permutation(100)
    shuffled = Pictures(
        pictures.fake[order], pictures.right[order], pictures.scores[order], [pictures.groups[i] for i in order]
    )
    assert group_intervals(pictures) == group_intervals(shuffled)


@pytest.mark.parametrize("many", [5000, 0])
def test_degenerate_pictures(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "MANY", many)
    none = np.zeros(0, dtype=bool)
    assert set(group_intervals(Pictures(none, none, None, [])).values()) == {None}
    real = np.zeros(3, dtype=bool)
    found = group_intervals(Pictures(real, ~real, np.full(3, 0.5), ["a", "a", "b"]))
    # All right in groups of two and one: Wilson's interval of 3 ** 2 / (2 ** 2 + 1) right ones, not one without width.
    assert found["accuracy"] == pytest.approx((1.8 / (1.8 + 1.959964**2), 1.0), abs=1e-4)
    assert found["recall_fake"] is found["balanced_accuracy"] is found["auc"] is None
    one = group_intervals(Pictures(~real[:1], real[:1], None, ["a"]))
    assert one["accuracy"] is not None and one["accuracy"][0] == 0.0 and "auc" not in one or one["auc"] is None
    constant = group_intervals(
        Pictures(np.array([True, False]), np.array([True, False]), np.array([0.5, 0.5]), ["a", "b"])
    )
    assert constant["auc"] == pytest.approx((0.0546, 0.9454), abs=1e-3)  # Wilson's of half a right one of one
    # One person with a real and a fake picture: every resample is the set itself.
    both = group_intervals(Pictures(np.array([True, False]), np.array([True, True]), np.array([0.9, 0.1]), ["a", "a"]))
    assert both["accuracy"] == pytest.approx((1 / (1 + 1.959964**2), 1.0), abs=1e-4)
    assert both["auc"] == pytest.approx((0.5 / (0.5 + 1.959964**2), 1.0), abs=1e-4)


@pytest.mark.parametrize("many", [5000, 0])
def test_independent_pictures_make_no_certainty_either(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A perfect, or worst, ranking of pictures without groups has the interval of as many groups of one picture."""
    monkeypatch.setattr(intervals, "MANY", many)
    for n_real, n_fake in ((1, 1), (3, 9), (6, 5), (40, 40)):
        fake = np.array([False] * n_real + [True] * n_fake)
        for scores in (fake * 0.8 + 0.1, 0.9 - fake * 0.8):
            found = ranking_intervals(fake, scores)
            alone = group_intervals(Pictures(fake, fake, scores, [str(n) for n in range(fake.size)]))
            assert found["auc"] is not None and found["auc"][1] - found["auc"][0] > 0.05
            assert found["average_precision"] is not None
            if scores[-1] > scores[0]:
                lowest = pytest.approx(1 / (1 + 1.959964**2 / min(n_real, n_fake)), abs=1e-4)
                assert found["auc"][0] == lowest == found["average_precision"][0]
            assert found["auc"] == pytest.approx(alone["auc"])
    assert ranking_intervals(np.ones(3, dtype=bool), np.ones(3)) == {"auc": None, "average_precision": None}


def people(mixed: int, real: int, fake: int, seed: int = 0, size: int = 4) -> Pictures:
    """People with pictures of both classes, of real ones only and of fakes only; each mostly right or wrong."""
    rng = np.random.default_rng(seed)
    of = [[False, True] * (size // 2)] * mixed + [[False] * size] * real + [[True] * size] * fake
    labels, n = np.array(of).ravel(), len(of)
    right = np.repeat(rng.random(n) < 0.7, size) ^ (rng.random(n * size) < 0.1)
    scores = np.where(right == labels, rng.uniform(0.5, 1, n * size), rng.uniform(0, 0.5, n * size))
    return Pictures(labels, right, scores, [str(index) for index in np.repeat(np.arange(n), size)])


@pytest.mark.parametrize("many", [5000, 0])
@pytest.mark.parametrize("kinds", [(1, 1, 1), (1, 1, 40), (0, 1, 40), (0, 1, 1), (0, 2, 2), (40, 1, 1)])
def test_no_figure_is_certain_because_few_people_decide_it(
    kinds: tuple[int, int, int], many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "MANY", many)
    pictures = people(*kinds)
    mixed, real, fake = kinds
    for name, interval in group_intervals(pictures).items():
        assert interval is not None
        few = {"recall_real": mixed + real, "recall_fake": mixed + fake, "accuracy": sum(kinds)}
        decide = few.get(name, mixed + min(real, fake))
        # Of n people, an interval that took each for one picture would have about 2 * 1.96 * 0.46 / sqrt(n).
        assert interval[1] - interval[0] > (0.4 if decide < 5 else 0.1), (name, interval)


def test_a_single_group_of_a_class_varies_with_the_others() -> None:
    """40 videos of fakes, all right, and one real, all wrong: the accuracy depends on whether that one is drawn."""
    fake = np.repeat(np.arange(41) > 0, 4)
    found = group_intervals(Pictures(fake, fake, None, [str(index) for index in np.repeat(np.arange(41), 4)]))
    assert found["accuracy"] is not None and found["accuracy"][0] < 0.95 and found["accuracy"][1] == 1.0
    # One video of which all is wrong, and forty of which all is right, each as one picture.
    assert found["recall_real"] == pytest.approx(wilson_interval(0, 1))
    assert found["recall_fake"] == pytest.approx(wilson_interval(40, 40))


def test_the_interval_covers_where_people_have_both_classes() -> None:
    covered = dict.fromkeys(("accuracy", "recall_real"), 0)
    for seed in range(100):
        found = group_intervals(people(30, 5, 2, seed), resamples=300)
        for name in covered:
            interval = found[name]
            # A person is right by 0.7, and each picture then turned by 0.1.
            covered[name] += interval is not None and interval[0] <= 0.7 * 0.9 + 0.3 * 0.1 <= interval[1]
    assert min(covered.values()) >= 87


def test_the_interval_covers_under_groups() -> None:
    hits = 0
    for seed in range(120):
        pictures = drawn(60, 5, seed, 0.8)
        interval = group_intervals(pictures, resamples=300)["auc"]
        assert interval is not None
        # P(a fake's normal is above a real's): means one apart, each of variance one.
        hits += interval[0] <= 0.7602 <= interval[1]
    assert hits >= 105


def all_pairs(fake: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, tuple[float, float]]:
    """A difference of AUCs from all pairs of a fake and a real one, each class drawn on its own in the bootstrap."""
    won = [(of[fake][:, None] > of[~fake]) + 0.5 * (of[fake][:, None] == of[~fake]) for of in (first, second)]
    gain = won[0] - won[1]
    rng = np.random.default_rng(0)
    fakes, reals = (rng.multinomial(n, np.full(n, 1 / n), 2000) / n for n in gain.shape)
    low, high = np.percentile(((fakes @ gain) * reals).sum(axis=1), [2.5, 97.5])
    return float(gain.mean()), (float(low), float(high))


def alone_in_groups(labels: np.ndarray, scores: np.ndarray) -> Pictures:
    fake = labels.astype(bool)
    return Pictures(fake, fake, scores, [str(at) for at in range(len(labels))])


def test_the_difference_of_two_aucs_is_paired() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 300)
    scores = rng.random(300) + 0.2 * labels
    worse = scores + 0.3 * rng.normal(size=300)
    found = paired_auc_difference(alone_in_groups(labels, scores), worse)
    assert found is not None and found[1] is not None
    difference, low, high = found[0], *found[1]
    assert difference == pytest.approx(roc_auc_score(labels, scores) - roc_auc_score(labels, worse), abs=1e-12)
    assert low < difference < high
    # Two scores that rank alike never differ, however few the pictures; their own intervals are wide.
    assert paired_auc_difference(alone_in_groups(labels, scores), 2 * scores) == (0.0, (0.0, 0.0))
    back = paired_auc_difference(alone_in_groups(labels, worse), scores)
    assert back is not None and back[0] == pytest.approx(-difference)
    assert paired_auc_difference(alone_in_groups(np.array([1, 1]), np.array([0.1, 0.2])), np.array([0.3, 0.1])) is None


def test_a_paired_difference_by_group() -> None:
    alone = drawn(200, 1, 3, 0.0)
    assert alone.scores is not None
    other = alone.scores + np.random.default_rng(0).normal(scale=0.2, size=200)
    by_group, plain = paired_auc_difference(alone, other), all_pairs(alone.fake, alone.scores, other)
    assert by_group is not None and by_group[1] is not None
    own, others = roc_auc(alone.fake, alone.scores), roc_auc(alone.fake, other)
    assert own is not None and others is not None
    assert by_group[0] == pytest.approx(plain[0]) == own - others
    assert by_group[1] == pytest.approx(plain[1], abs=0.01)
    # The same pictures five times over, as frames of one video, say no more than once.
    fake, right, scores = (np.repeat(of, 5) for of in (alone.fake, alone.right, alone.scores))
    five = Pictures(
        fake.astype(bool), right.astype(bool), scores.astype(float), [name for name in alone.groups for _ in range(5)]
    )
    again = paired_auc_difference(five, np.repeat(other, 5))
    assert again is not None and again[0] == pytest.approx(by_group[0])
    assert again[1] == pytest.approx(by_group[1], abs=0.002)
    assert paired_auc_difference(alone, alone.scores) == (0.0, (0.0, 0.0))
    few = Pictures(alone.fake, alone.right, alone.scores, ["a", "b"] * 100)
    of_few = paired_auc_difference(few, other)
    assert of_few is not None and of_few[0] == pytest.approx(plain[0]) and of_few[1] is None
    assert paired_auc_difference(Pictures(alone.fake | True, alone.right, alone.scores, alone.groups), other) is None
