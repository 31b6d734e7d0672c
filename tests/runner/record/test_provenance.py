"""What figures were made with is read back as it was written."""

import torch

from r2d2.processor.kind import Processor, this_processor
from r2d2.source_code import SourceCode
from r2d2.storage.location import store_at
from runner.record.provenance import (
    MOST_FILES,
    Provenance,
    installed_versions,
    load_files,
    note_processor,
    processors_of,
    save_files,
)

AVX2 = Processor("A CPU", "AVX2", 1)
AVX512 = Processor("Another CPU", "AVX512", 1)


def test_code_packages_and_processor_of_an_attempt_are_read_back(tmp_path):
    code = SourceCode("v", "c" * 40, "main", "diff", ("a file: too large",))
    record = Provenance(code, {"torch": "2.13.0"}, AVX2)
    record.save(tmp_path, 3)
    assert Provenance.load(tmp_path, 3) == record
    assert Provenance.load(tmp_path, 2) is None


def test_a_trial_notes_each_kind_of_processor_once(tmp_path):
    trial = store_at(tmp_path)
    for processor in (AVX2, AVX2, AVX512):
        note_processor(trial, processor)
    assert processors_of(trial) == (AVX2, AVX512)
    assert processors_of(store_at(tmp_path / "of an earlier version")) == ()


def test_the_digests_of_files_are_kept_unless_they_are_too_many(tmp_path):
    many, few = store_at(tmp_path / "many"), store_at(tmp_path / "few")
    save_files(few, {"a.png": "0" * 64})
    save_files(many, {str(n): "" for n in range(MOST_FILES + 1)})
    assert load_files(few) == {"a.png": "0" * 64}
    assert load_files(many) is None


def test_this_machine_has_a_processor_and_versions_of_what_decides_numbers():
    found = this_processor(torch.device("cpu"), threads=1)
    assert found.cpu
    assert found.capability == torch.backends.cpu.get_cpu_capability()
    assert (found.threads, found.gpu) == (1, "")
    assert {"python", "torch", "numpy", "pillow"} <= installed_versions().keys()
