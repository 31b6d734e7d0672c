"""Convolutions compute what PyTorch's compute, whichever layout the gradients of their weights come from."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from r2d2 import convolution
from r2d2.convolution import Convolution


@pytest.fixture
def slow(monkeypatch):
    """As on a processor with AVX2."""
    monkeypatch.setattr(convolution, "_has_avx2_at_most", lambda: True)


def gradients(kind, layout, size, dilation):
    torch.manual_seed(0)
    layer = kind(5, 7, size, padding=(size - 1) * dilation // 2, dilation=dilation)
    image = torch.randn(2, 5, 12, 9).contiguous(memory_format=layout).requires_grad_()
    output = layer(image)
    (output.square() * torch.linspace(0, 1, 9)).sum().backward()
    return [output.detach(), image.grad, layer.weight.grad, layer.bias.grad]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (3, 4), (2, 2), (1, 1)])
def test_output_and_gradients_are_those_of_pytorch(slow, layout, size, dilation):
    ours = gradients(Convolution, layout, size, dilation)
    theirs = gradients(nn.Conv2d, layout, size, dilation)
    for one, other in zip(ours, theirs, strict=True):
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


def test_the_plain_layout_holds_the_same():
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    plain = convolution._plain(x)
    assert plain.is_contiguous()
    assert torch.equal(plain, x)
