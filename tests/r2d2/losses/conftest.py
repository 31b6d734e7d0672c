"""The maps and the flow of the reference pairs, as the losses get them."""

from __future__ import annotations

import pytest
import torch

from r2d2.containers import DenseFeatures


@pytest.fixture(scope="session")
def losses(golden):
    """The reference arrays as tensors."""
    return {name: torch.from_numpy(array) for name, array in golden("losses").items()}


@pytest.fixture
def reference(losses):
    """`reference()`: features1, features2 (leaves), aflow; `second=True`: some queries leave image 2."""

    def make(second=False):
        prefix = "second/" if second else ""
        names = ("descriptors1", "reliability1", "repeatability1")
        features1 = DenseFeatures(*[losses[name].clone().requires_grad_() for name in names])
        names = (f"{prefix}descriptors2", "reliability2", "repeatability2")
        features2 = DenseFeatures(*[losses[name].clone().requires_grad_() for name in names])
        return features1, features2, losses[f"{prefix}aflow"]

    return make
