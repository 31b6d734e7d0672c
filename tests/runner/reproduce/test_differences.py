"""Each cause that can change a number is named by comparing what was recorded."""

from dataclasses import replace

import pytest

from evaluation.protocols import PROTOCOLS
from r2d2.processor.kind import Processor
from runner.reproduce.differences import (
    code_differences,
    file_differences,
    package_differences,
    processor_differences,
    protocol_differences,
)

CPU = Processor("A CPU", "AVX2", 1)
GPU = replace(CPU, gpu="A GPU, CUDA 12.8, cuDNN 91000")


def said(differences):
    return [str(one) for one in differences]


def test_a_package_of_another_version_one_that_is_gone_and_a_new_one_are_named():
    was, now = (
        {"torch": "2.13.0", "scipy": "1.17", "numpy": "2.4"},
        {"torch": "2.12.0", "numpy": "2.4", "ray": "2.60"},
    )
    assert said(package_differences(was, now)) == [
        "package ray: none -> 2.60",
        "package scipy: 1.17 -> none",
        "package torch: 2.13.0 -> 2.12.0",
    ]


def test_a_photograph_of_another_content_is_named():
    was = {"a.png": "0" * 64, "b.png": "1" * 64}
    assert said(file_differences(was, {**was, "b.png": "2" * 64})) == [
        f"photograph b.png: {'1' * 12} -> {'2' * 12}"
    ]
    assert file_differences(was, was) == []


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (replace(CPU, capability="AVX512"), ["processor capability: AVX2 -> AVX512"]),
        (replace(CPU, threads=2), ["processor threads: 1 -> 2"]),
        (GPU, ["processor gpu:  -> A GPU, CUDA 12.8, cuDNN 91000"]),
        (CPU, []),
    ],
)
def test_another_processor_is_named_by_what_decides_numbers(now, expected):
    assert said(processor_differences((CPU,), (now,))) == expected


def test_a_training_on_two_processors_differs_from_one_on_a_single_one():
    [difference] = processor_differences((CPU, GPU), (CPU,))
    assert "A GPU" in difference.was
    assert "A GPU" not in difference.now
    assert processor_differences((), (CPU,)) == []


def test_a_protocol_is_named_by_the_setting_that_changed():
    was = PROTOCOLS["validation"]
    now = replace(was, extraction=replace(was.extraction, top_k=500))
    assert said(protocol_differences(was.to_json(), now.to_json())) == [
        "protocol validation top_k: 1000 -> 500"
    ]
    assert protocol_differences(was.to_json(), was.to_json()) == []


def test_a_protocol_whose_definition_alone_changed_is_named_by_its_digest():
    was = PROTOCOLS["validation"].to_json()
    assert said(protocol_differences(was, {**was, "protocol_digest": "f" * 64})) == [
        f"protocol validation: {was['protocol_digest'][:12]} -> {'f' * 12}"
    ]


def test_code_is_named_by_file_and_line(tmp_path):
    was, now = tmp_path / "was", tmp_path / "now"
    for root, line in ((was, "return 1 - x"), (now, "return 1 + x")):
        (root / "r2d2" / "losses").mkdir(parents=True)
        (root / "r2d2" / "losses" / "ap.py").write_text(f"def f(x):\n    {line}\n")
        (root / "r2d2" / "same.py").write_text("same\n")
    (now / "r2d2" / "new.py").write_text("one\ntwo\n")
    (now / "r2d2" / "table.npz").write_text("no code")
    assert said(code_differences(was, now)) == [
        "code r2d2/losses/ap.py:2: 'return 1 - x' -> 'return 1 + x'",
        "code r2d2/new.py:1: none -> 'one' and 1 lines more",
    ]
