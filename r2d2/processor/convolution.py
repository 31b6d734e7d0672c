"""Computes the gradients of a convolution's weights in the layout in which this processor is fastest.

For the output and for the gradients of the input, a float32 convolution is as fast in channels_last as in
PyTorch's plain layout, or faster. For the gradients of the weights it is 1.5 to 4 times slower on processors
with AVX2 only, and with AVX-512 if the convolution is dilated. That is more than copying both tensors costs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Convolution(nn.Conv2d):
    """A Convolution computes the same numbers as PyTorch's two-dimensional one, but for rounding."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        usual = self.groups == 1 and self.padding_mode == "zeros" and not isinstance(self.padding, str)
        if usual and bias is not None and _is_trained_slowly(input, weight, self.dilation):
            shape = self.stride, self.padding, self.dilation
            output: Tensor = _PlainWeightGradient.apply(input, weight, bias, *shape)  # type: ignore[no-untyped-call]
            return output
        plain: Tensor = super()._conv_forward(input, weight, bias)
        return plain


def _is_trained_slowly(x: Tensor, weight: Tensor, dilation: tuple[int, ...]) -> bool:
    return (
        x.device.type == "cpu"
        and weight.requires_grad
        and torch.is_grad_enabled()
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and (_instructions() == "avx2" or (_instructions() == "avx512" and max(dilation) > 1))
    )


@cache
def _instructions() -> str:
    """The widest vectors that this processor computes with, as far as it matters here."""
    able = torch.cpu.get_capabilities()
    return next((name for name, flag in (("avx512", "avx512_f"), ("avx2", "avx2")) if able.get(flag)), "")


class _PlainWeightGradient(torch.autograd.Function):
    """A convolution whose gradients of weights and bias are computed in the plain layout."""

    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        context.save_for_backward(x, weight)
        context.shape = (stride, padding, dilation)
        return torch.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = context.saved_tensors
        of_x, of_weight, of_bias, *_ = context.needs_input_grad
        shape = ([weight.shape[0]], *context.shape, False, (0, 0), 1)
        backward = torch.ops.aten.convolution_backward
        first = backward(gradient, x, weight, *shape, (of_x, False, False))
        others = backward(_plain(gradient), _plain(x), weight, *shape, (False, of_weight, of_bias))
        return first[0], others[1], others[2], None, None, None


def _plain(x: Tensor) -> Tensor:
    """Copies x (B, C, H, W) into the plain layout, by way of (B, H, C, W), which keeps to the cache."""
    if x.is_contiguous():
        return x
    return x.transpose(1, 2).contiguous().transpose(1, 2).contiguous()
