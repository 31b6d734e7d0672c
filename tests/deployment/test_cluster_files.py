"""The files that start clusters are what Ray takes, and name the same versions and variables as the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text())


@pytest.fixture(scope="module")
def ray_version():
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    return pinned[1]


def test_the_launcher_file_passes_rays_own_validation():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read("aws.yaml"))
    validate_config(config)
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    assert (
        config["available_node_types"]["gpu"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    )


def test_rays_validation_would_refuse_a_misspelt_key():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config({**read("aws.yaml"), "idle_timeout_minuts": 3})
    with pytest.raises(Exception, match="idle_timeout_minuts"):
        validate_config(config)


def test_image_and_manifests_name_the_tested_release_of_ray(ray_version):
    assert f"ARG RAY_VERSION={ray_version}\n" in (CLUSTER / "Dockerfile").read_text()
    assert read("raycluster.yaml")["spec"]["rayVersion"] == ray_version


def test_the_job_runs_on_the_cluster_of_the_other_manifest():
    cluster, job = read("raycluster.yaml"), read("rayjob.yaml")
    assert job["spec"]["clusterSelector"]["ray.io/cluster"] == cluster["metadata"]["name"]
    assert job["spec"]["entrypoint"].startswith("python -m runner sweep ")


def test_worker_pods_ask_for_whole_gpus_and_the_head_for_none():
    spec = read("raycluster.yaml")["spec"]
    head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in spec["workerGroupSpecs"]:
        resources = group["template"]["spec"]["containers"][0]["resources"]
        assert resources["limits"] == resources["requests"]
        assert resources["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("name", ["aws.yaml", "raycluster.yaml", "rayjob.yaml"])
def test_what_must_be_changed_is_marked(name):
    for line in (CLUSTER / name).read_text().splitlines():
        placeholder = re.search(r"REGISTRY|BUCKET|OWNER|ami-|FILE_SYSTEM", line.partition("#")[0])
        if placeholder and "mount -t" not in line:
            assert "CHANGE" in line, line
