"""Tensors come back from their file, or a sentence says why not."""

from __future__ import annotations

import hashlib
import pickle

import pytest
import torch

from r2d2.formats import tensor_file
from r2d2.formats.tensor_file import read_tensors, write_tensors


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.5),
        torch.tensor(7),
        torch.zeros(0, 3),
        torch.arange(12.0).reshape(3, 4).T,
        torch.ones(1).expand(5, 2),
        torch.ones(2, requires_grad=True),
        torch.tensor([float("nan"), float("-inf"), -0.0]),
    ],
)
def test_a_tensor_comes_back_bit_for_bit(tmp_path, tensor):
    sha256 = write_tensors(tmp_path / "t", {"a name": tensor})
    assert sha256 == hashlib.sha256((tmp_path / "t").read_bytes()).hexdigest()
    (name, back), *rest = read_tensors(tmp_path / "t", sha256).items()
    assert (name, rest) == ("a name", [])
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert back.numpy().tobytes() == tensor.detach().contiguous().numpy().tobytes()


def test_what_is_read_can_be_written_to(tmp_path):
    write_tensors(tmp_path / "t", {"a": torch.zeros(2)})
    read_tensors(tmp_path / "t")["a"].add_(1)
    assert read_tensors(tmp_path / "t")["a"].tolist() == [0, 0]


def test_a_sound_file_that_begins_like_a_pickle_is_read(tmp_path):
    write_tensors(tmp_path / "t", {"n" * 580: torch.zeros(1)})
    assert (tmp_path / "t").read_bytes().startswith(pickle.dumps(None, protocol=2)[:2])
    assert len(read_tensors(tmp_path / "t")) == 1


def test_another_content_than_was_written_is_refused(tmp_path):
    sha256 = write_tensors(tmp_path / "t", {"a": torch.zeros(2)})
    write_tensors(tmp_path / "t", {"a": torch.ones(2)})
    with pytest.raises(ValueError, match="t is damaged: its content is not what was written"):
        read_tensors(tmp_path / "t", sha256)


@pytest.mark.parametrize(
    "content", [b"", b"\x08", b"\xff" * 100, b"no tensors at all, but longer than a header"]
)
def test_another_kind_of_file_is_refused(tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(ValueError, match="t is damaged: it is no safetensors file"):
        read_tensors(tmp_path / "t")


@pytest.mark.parametrize(
    "header",
    [
        '{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}',
        '{"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,0]}}',
        '{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}',
    ],
)
def test_hostile_headers_are_one_sentence(tmp_path, header):
    data = bytes(1 if "0,1]" in header else 0)
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode() + data)
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged"):
        read_tensors(tmp_path / "a.safetensors")


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_file, "MAX_BYTES", 100)
    (tmp_path / "a.safetensors").write_bytes(bytes(101))
    with pytest.raises(ValueError, match="has 101 bytes; it may have at most 100"):
        read_tensors(tmp_path / "a.safetensors")
