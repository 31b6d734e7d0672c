"""A cluster of a head and two worker nodes for all tests of this folder."""

from __future__ import annotations

import pytest
from ray_nodes import running_cluster


@pytest.fixture(scope="session")
def cluster():
    with running_cluster() as found:
        yield found
