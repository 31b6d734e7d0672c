"""Convolutions compute what PyTorch's compute, whichever layout the gradients of their weights come from."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from r2d2.processor import convolution
from r2d2.processor.convolution import Convolution


@pytest.fixture
def slow(monkeypatch):
    """As on a processor with AVX2."""
    monkeypatch.setattr(convolution, "_instructions", lambda: "avx2")


def gradients(kind, layout, size, dilation, first=False, frozen_bias=False):
    torch.manual_seed(0)
    layer = kind(5, 7, size, padding=(size - 1) * dilation // 2, dilation=dilation)
    layer.bias.requires_grad_(not frozen_bias)
    image = torch.randn(2, 5, 12, 9).contiguous(memory_format=layout).requires_grad_(not first)
    output = layer(image)
    (output.square() * torch.linspace(0, 1, 9)).sum().backward()
    return [output.detach(), image.grad, layer.weight.grad, layer.bias.grad]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (3, 4), (2, 2), (1, 1)])
def test_output_and_gradients_are_those_of_pytorch(slow, layout, size, dilation):
    ours = gradients(Convolution, layout, size, dilation)
    theirs = gradients(nn.Conv2d, layout, size, dilation)
    assert_equal(ours, theirs)


@pytest.mark.parametrize("what", ["first", "frozen_bias"])
def test_gradients_that_nobody_wants_are_left_out(slow, what):
    ours = gradients(Convolution, torch.channels_last, 3, 1, **{what: True})
    theirs = gradients(nn.Conv2d, torch.channels_last, 3, 1, **{what: True})
    assert ours[1 if what == "first" else 3] is None
    assert_equal(ours, theirs)


def test_padding_that_is_not_of_zeros_is_pytorchs(slow):
    torch.manual_seed(0)
    layer = Convolution(3, 4, 3, padding=1, padding_mode="reflect")
    plain = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
    plain.load_state_dict(layer.state_dict())
    image = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(layer(image), plain(image))


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_gradients_agree_with_finite_differences():
    def convolve(x, weight, bias):
        return convolution._PlainWeightGradient.apply(x, weight, bias, (1, 1), (1, 1), (2, 2))

    shapes = ((2, 3, 6, 7), (4, 3, 2, 2), (4,))
    assert gradcheck(convolve, [torch.randn(s, dtype=torch.double, requires_grad=True) for s in shapes])


def test_frozen_weights_and_evaluation_take_pytorchs_own_way(slow, monkeypatch):
    monkeypatch.setattr(convolution._PlainWeightGradient, "apply", lambda *_: 1 / 0)
    layer = Convolution(3, 4, 3)
    with torch.no_grad():
        layer(torch.zeros(1, 3, 5, 5))
    layer.requires_grad_(False)(torch.zeros(1, 3, 5, 5, requires_grad=True)).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.requires_grad_()(torch.zeros(1, 3, 5, 5)).dtype == torch.bfloat16
    with pytest.raises(ZeroDivisionError):
        layer(torch.zeros(1, 3, 5, 5))


def test_with_avx512_only_dilated_convolutions_take_another_way(monkeypatch):
    monkeypatch.setattr(convolution, "_instructions", lambda: "avx512")
    monkeypatch.setattr(convolution._PlainWeightGradient, "apply", lambda *_: 1 / 0)
    Convolution(3, 4, 3)(torch.zeros(1, 3, 5, 5))
    with pytest.raises(ZeroDivisionError):
        Convolution(3, 4, 3, dilation=2)(torch.zeros(1, 3, 5, 5))


def test_the_plain_layout_holds_the_same():
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    plain = convolution._plain(x)
    assert plain.is_contiguous()
    assert torch.equal(plain, x)
