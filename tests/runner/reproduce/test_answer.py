"""An answer is identical only bit for bit; else the seeds' noise decides, and all that differs is listed."""

from dataclasses import replace

import pytest
from answers import checked

from evaluation.evaluation import Timings
from runner.record.history import History
from runner.reproduce.answer import Answer, SeedNoise, first_difference, noise_of, seed_noise, verdict_of
from runner.reproduce.differences import Difference
from runner.reproduce.target import find_target
from runner.terminal.answer import print_answer

TORCH = Difference("package", "torch", "2.13.0", "2.12.0")


def answer(verdict, now, half, differences=(TORCH,)):
    noise = SeedNoise(half, "by 3 seeds of the variant")
    return Answer(
        verdict,
        "ap+dice, seed 0",
        "validation/mma_3px",
        2,
        0.5,
        now,
        "the weights",
        noise,
        "the run's code",
        differences,
    )


@pytest.fixture
def histories(tmp_path, make_evaluation, write_score):
    """Two histories: of a training, and of one whose score and weights the caller chooses."""

    def make(score=0.5, **changes):
        was, now = History(tmp_path / "was"), History(tmp_path / "now")
        write_score(was, make_evaluation(), 0.5)
        write_score(now, replace(make_evaluation(), **changes), score)
        return was, now

    return make


def test_no_difference_is_identical_though_one_was_faster(histories):
    assert first_difference(*histories(timings=Timings(9.0, 9.0))) == ""


def test_other_weights_with_the_same_score_are_not_identical(histories):
    first = first_difference(*histories(model_digest="n" * 64))
    assert first == "the weights in 'validation' of epoch 1"
    assert verdict_of(0.0, first, SeedNoise(0.1, "")) == "within the seeds' noise"


def test_a_figure_that_differs_in_its_last_digit_is_named(histories):
    assert first_difference(*histories(score=0.5 + 1e-17)) == ""
    assert "validation/mma_3px in 'validation' of epoch 1" in first_difference(*histories(score=0.5 + 1e-15))


def test_an_epoch_that_the_reproduction_lacks_is_a_difference(histories):
    was, now = histories()
    now.store.delete("epoch_001.validation.json")
    assert "of epoch 1" in first_difference(was, now)


@pytest.mark.parametrize(
    ("value", "half", "verdict"),
    [(0.02, 0.03, "within the seeds' noise"), (-0.04, 0.03, "differs"), (0.001, None, "differs")],
)
def test_the_noise_of_seeds_decides(value, half, verdict):
    assert verdict_of(value, "the weights", SeedNoise(half, "")) == verdict


def test_three_seeds_make_the_interval_of_students_distribution():
    noise = seed_noise({"mine": [0.50, 0.52, 0.51]})
    # A standard deviation of 0.01; 4.3027 is the quantile of 2 degrees of freedom.
    assert noise.half == pytest.approx(4.3027 * 0.01 * 2**0.5, rel=1e-4)
    assert noise.source == "by 3 seeds of the variant"


def test_the_variance_is_pooled_over_variants_that_scatter_alike():
    rows = {
        name: [0.50 + shift, 0.52 + shift, 0.51 + shift] for name, shift in zip("abcd", range(4), strict=True)
    }
    noise = seed_noise(rows)
    # 2.3060 is the quantile of 8 degrees of freedom.
    assert noise.half == pytest.approx(2.3060 * 0.01 * 2**0.5, rel=1e-4)
    assert noise.source == "by the seeds of 4 variants of its sweep"
    wild = seed_noise({"wild": [0.1, 0.9, 0.5], **rows})
    assert wild.source == "by 3 seeds of the variant"


def test_with_one_seed_the_noise_is_that_of_other_sweeps_or_unknown(store_sweep, settings):
    store_sweep(seeds=(0,))
    assert seed_noise({"mine": [0.5]}).half is None
    noise = noise_of(find_target("mine:ap+cosine", settings), settings)
    # The table has two sequences.
    assert noise.half == pytest.approx(1.96 * (2 * 0.005**2 + 2 * (0.015**2 + 0.04**2 / 5) / 2) ** 0.5)
    assert "measured on HPatches" in noise.source


def test_a_seed_without_a_finite_score_says_nothing_of_the_noise():
    assert seed_noise({"mine": [0.50, 0.52, float("nan"), 0.51]}) == seed_noise({"mine": [0.50, 0.52, 0.51]})
    assert seed_noise({"mine": [0.50, float("nan")]}).half is None


@pytest.mark.parametrize(("now", "half"), [(float("nan"), 0.03), (0.6, float("nan")), (float("inf"), 0.03)])
def test_the_json_of_figures_that_are_not_finite_has_null(now, half, capsys):
    found = answer("differs", now, half)
    print_answer("reproduction", **found.to_json())
    printed = capsys.readouterr().out
    assert "NaN" not in printed
    assert "Infinity" not in printed
    assert checked(printed)["interval"] is None
    assert "interval" not in "\n".join(found.lines())


def test_each_answer_says_what_differs_and_how_far():
    identical = "\n".join(answer("identical", 0.5, 0.03).lines())
    assert identical.startswith("identical, bit for bit: ap+dice, seed 0")
    assert "package torch: 2.13.0 -> 2.12.0" in identical
    within = "\n".join(answer("within the seeds' noise", 0.51, 0.03, ()).lines())
    assert within.startswith("within the seeds' noise")
    assert "Nothing that was recorded differs." in within
    assert "95 % interval of the difference, -0.0200 to +0.0400, holds 0" in within
    differs = "\n".join(answer("differs", 0.6, 0.03).lines())
    assert differs.startswith("differs because of what follows: ap+dice, seed 0.\n  package torch: 2.13.0")
    assert "+0.0700 to +0.1300, does not hold 0" in differs
    assert (
        answer("differs", 0.6, None, ())
        .lines()[0]
        .startswith("differs, and nothing that was recorded differs")
    )


def test_the_json_says_the_same_with_the_fields_of_the_page(capsys):
    print_answer("reproduction", **answer("differs", 0.6, 0.03).to_json())
    values = checked(capsys.readouterr().out)
    assert (values["version"], values["verdict"]) == (1, "differs")
    assert values["interval"] == pytest.approx([0.07, 0.13])
    assert values["differences"] == [{"kind": "package", "name": "torch", "was": "2.13.0", "now": "2.12.0"}]
