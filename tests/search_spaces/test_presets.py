"""A preset gives every sweep a size, and leaves what the sweep asks about."""

import pytest

from r2d2.config import SCRATCH
from search_spaces.presets import PRESETS, preset_overrides
from search_spaces.sweep import load_sweep, sweep_names


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("name", sweep_names())
def test_every_sweep_takes_every_preset_and_keeps_its_question(preset, name):
    sweep, _ = load_sweep(name)
    before = sweep.trials()
    after = sweep.trials(preset_overrides(preset, before))
    assert len(after) == len(before)
    assert [t.variant for t in after] == [t.variant for t in before]
    assert {t.config.init for t in after} == {t.config.init for t in before}
    assert all(t.config.epochs <= 2 for t in after)


def test_a_network_that_is_fine_tuned_keeps_its_size_and_its_learning_rate():
    study, scratch = load_sweep("study")[0], load_sweep("similarities")[0]
    assert {t.config.init for t in study.trials()} > {SCRATCH}
    tuned, fresh = (s.trials(preset_overrides("small", s.trials())) for s in (study, scratch))
    assert {(t.config.network.channels, t.config.optimiser.learning_rate) for t in tuned} == {(4, 1e-4)}
    assert {(t.config.network.channels, t.config.optimiser.learning_rate) for t in fresh} == {(1, 3e-3)}
