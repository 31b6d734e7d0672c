import dataclasses

import pytest

from evaluation.evaluator import PROTOCOLS
from r2d2.keypoints import ExtractionSettings


def test_d2net_uses_the_defaults_of_extraction():
    assert PROTOCOLS["d2net"].extraction == ExtractionSettings()


def test_what_decides_sweeps_is_exact_and_the_tables_of_the_field_are_fast():
    assert PROTOCOLS["validation"].extraction.exact
    assert not PROTOCOLS["d2net"].extraction.exact


def test_validation_takes_the_best_keypoints_without_thresholds():
    settings = PROTOCOLS["validation"].extraction
    assert (settings.top_k, settings.min_reliability, settings.min_repeatability) == (1000, 0, 0)
    # An image of 384 x 256 has all levels down to 0.3.
    assert (settings.min_size, settings.min_scale) == (0, 0.3)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_other_settings_have_another_name(name):
    protocol = PROTOCOLS[name]
    assert protocol.name == name
    assert protocol.with_extraction(protocol.extraction) == protocol
    changed = protocol.with_extraction(dataclasses.replace(protocol.extraction, top_k=7, max_size=512))
    assert changed.name == f"{name}[top_k=7,max_size=512]"
    assert changed.extraction.top_k == 7
    everything = dataclasses.replace(protocol.extraction, top_k=None)
    assert protocol.with_extraction(everything).name == f"{name}[top_k=all]"
