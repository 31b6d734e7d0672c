"""A cluster of a head and two worker nodes for all tests of this folder."""

from __future__ import annotations

import pytest
from ports import free_port
from ray_nodes import Cluster, node_folder, own_environment


@pytest.fixture(scope="session")
def cluster():
    port, dashboard = free_port(), free_port()
    # A notice is looked for every 5 s otherwise, by when these trainings have ended; a lost node is missed
    # after five looks, one in 3 s; and nodes wait for a lost head for 60 s.
    environment = own_environment(
        RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S="0.5",
        RAY_health_check_period_ms="1000",
        RAY_gcs_rpc_server_reconnect_timeout_s="15",
    )
    with node_folder() as folder:
        found = Cluster(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", environment, folder)
        found.start_head()
        found.ensure_nodes(2)
        yield found
