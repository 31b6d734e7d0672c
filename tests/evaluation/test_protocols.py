import dataclasses

import pytest
import torch

from evaluation.evaluator import PROTOCOLS, Protocol
from evaluation.metrics.homography import DLT, POSELIB, Estimator
from r2d2.extraction.keypoints import arithmetic
from r2d2.extraction.settings import ExtractionSettings

FLOAT32 = ExtractionSettings(precision="float32")


def test_d2net_uses_the_defaults_of_extraction():
    assert PROTOCOLS["d2net"].extraction == FLOAT32


def test_what_decides_sweeps_is_exact_and_the_tables_of_the_field_take_short_cuts():
    assert PROTOCOLS["validation"].extraction.exact
    assert not PROTOCOLS["d2net"].extraction.exact


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_machine_chooses_the_arithmetic_of_a_score(name):
    settings = PROTOCOLS[name].extraction
    assert {arithmetic(settings, torch.device(device)) for device in ("cpu", "cuda")} in (
        {"float32"},
        {"float32-folded"},
    )
    assert settings.precision == "float32"
    with pytest.raises(
        ValueError, match="precision is fastest, another arithmetic on each machine; a protocol"
    ):
        Protocol("mine", ExtractionSettings())


def test_a_score_in_16_bits_is_one_of_another_protocol():
    usual = PROTOCOLS["d2net"]
    short = usual.with_extraction(dataclasses.replace(FLOAT32, precision="bfloat16"))
    assert short.name == "d2net[precision=bfloat16]"
    assert short.digest != usual.digest
    assert Protocol.from_json(short.to_json()) == short


def test_digests_are_those_from_before_protocols_named_an_arithmetic():
    """Sweeps that began then are resumed; the digests were computed by the release before."""
    begins = {name: protocol.digest[:12] for name, protocol in PROTOCOLS.items()}
    assert begins == {
        "d2net": "9bd7ca322c3f",
        "d2net-full": "6272586ef9db",
        "glue-factory-480": "71007ddf8340",
        "validation": "da23b3a485e8",
    }


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("float32-folded", "d2net"),
        ("files", "d2net"),
        ("bfloat16", "d2net[precision=bfloat16]"),
        ("float16", "d2net[precision=float16]"),
    ],
)
def test_a_score_from_before_keeps_the_arithmetic_that_it_names(stored, name):
    values = PROTOCOLS["d2net"].to_json() | {"arithmetic": stored}
    del values["settings"]["precision"]
    read = Protocol.from_json(values)
    assert read.name == name
    assert (read.digest == PROTOCOLS["d2net"].digest) == (name == "d2net")


def test_validation_takes_the_best_keypoints_without_thresholds():
    settings = PROTOCOLS["validation"].extraction
    assert (settings.top_k, settings.min_reliability, settings.min_repeatability) == (1000, 0, 0)
    # An image of 384 x 256 has all levels down to 0.3.
    assert (settings.min_size, settings.min_scale) == (0, 0.3)


def test_full_resolution_has_no_bounds_on_the_size():
    assert PROTOCOLS["d2net-full"].extraction == FLOAT32.full_resolution()


def test_glue_factory_takes_the_best_1024_at_480_pixels():
    protocol = PROTOCOLS["glue-factory-480"]
    settings = protocol.extraction
    assert protocol.shorter_side == 480
    assert (settings.top_k, settings.min_reliability, settings.min_repeatability) == (1024, 0, 0)
    assert protocol.estimators == (DLT, POSELIB)


def test_digests_tell_protocols_apart_by_what_they_measure():
    digests = {protocol.digest for protocol in PROTOCOLS.values()}
    assert len(digests) == len(PROTOCOLS)
    usual = PROTOCOLS["d2net"]
    assert dataclasses.replace(usual, name="mine").digest == usual.digest
    for change in (
        {"shorter_side": 480},
        {"estimators": (DLT,)},
        {"estimators": (DLT, Estimator("poselib", 2.0, seed=0))},
        {"extraction": dataclasses.replace(FLOAT32, top_k=4999)},
    ):
        assert dataclasses.replace(usual, **change).digest != usual.digest
    assert usual.title == f"d2net ({usual.digest[:8]})"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"shorter_side": 20}, "shorter_side is 20 pixels; it must be at least 32"),
        ({"matcher": "ratio"}, "unknown matcher 'ratio'"),
    ],
)
def test_protocols_that_mean_nothing_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        Protocol("odd", FLOAT32, **settings)


@pytest.mark.parametrize("values", [("magic",), ("poselib",), ("dlt", 1.0), ("poselib", 1.0)])
def test_estimators_that_mean_nothing_are_refused(values):
    with pytest.raises(ValueError, match="estimator"):
        Estimator(*values)


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
