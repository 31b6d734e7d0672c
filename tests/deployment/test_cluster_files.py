"""The files that start clusters are what Ray takes, and name the same versions and variables as the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from runner.cluster.labels import is_selected

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"


# What ray.io/v1 of KubeRay 1.7.0 knows, level by level: path -> keys that must be there
# (KubeRay's demands and our own), keys that may.
KUBERAY = {
    "RayCluster": ({"apiVersion", "kind", "metadata", "spec"}, {"status"}),
    "RayCluster.spec": (
        {"rayVersion", "headGroupSpec"},
        {
            *("authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions"),
            *("headServiceAnnotations", "historyServerOptions", "managedBy", "networkPolicy", "suspend"),
            *("tlsOptions", "upgradeStrategy", "workerGroupSpecs"),
        },
    ),
    "RayCluster.spec.authOptions": ({"mode"}, {"enableK8sTokenAuth", "secretName"}),
    "RayCluster.spec.autoscalerOptions": (
        {"version"},
        {
            *("args", "command", "env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy"),
            *("resources", "securityContext", "upscalingMode", "volumeMounts"),
        },
    ),
    "RayCluster.spec.headGroupSpec": (
        {"rayStartParams", "template"},
        {"enableIngress", "headService", "ingressOptions", "labels", "resources", "serviceType"},
    ),
    "RayCluster.spec.workerGroupSpecs": (
        {"groupName", "maxReplicas", "minReplicas", "rayStartParams", "template"},
        {"idleTimeoutSeconds", "labels", "numOfHosts", "priority", "replicas", "resources", "suspend"}
        | {"scaleStrategy"},
    ),
    "RayJob": ({"apiVersion", "kind", "metadata", "spec"}, {"status"}),
    # KubeRay refuses another try, backoffLimit, of a job with a clusterSelector.
    "RayJob.spec": (
        {"backoffLimit", "entrypoint", "rayClusterSpec"},
        {
            *("activeDeadlineSeconds", "deletionStrategy", "entrypointNumCpus", "entrypointNumGpus"),
            *("entrypointResources", "jobId", "managedBy", "metadata", "preRunningDeadlineSeconds"),
            *("runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig"),
            *("submitterPodTemplate", "ttlSecondsAfterFinished"),
        },
    ),
}
KUBERAY_CHOICES = {
    "RayCluster.spec.authOptions.mode": {"disabled", "token"},
    "RayCluster.spec.autoscalerOptions.upscalingMode": {"Default", "Aggressive", "Conservative"},
    "RayCluster.spec.autoscalerOptions.version": {"v1", "v2"},
    # It refuses backoffLimit in InteractiveMode too.
    "RayJob.spec.submissionMode": {"K8sJobMode", "HTTPMode"},
}


def kuberay_faults(value, path):
    """What KubeRay would not take, sentence by sentence."""
    if isinstance(value, list):
        return [fault for one in value for fault in kuberay_faults(one, path)]
    if path in KUBERAY_CHOICES and value not in KUBERAY_CHOICES[path]:
        return [f"{path} is {value}"]
    if path.endswith(".rayStartParams"):
        return [f"{path}.{key} is no text" for key, one in value.items() if not isinstance(one, str)]
    if path not in KUBERAY or not isinstance(value, dict):
        return []
    needed, known = KUBERAY[path]
    faults = [f"{path} lacks {key}" for key in needed - value.keys()]
    faults += [f"{path} has {key}" for key in value.keys() - needed - known]
    return faults + [fault for key, one in value.items() for fault in kuberay_faults(one, f"{path}.{key}")]


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


@pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync of Debian")
def test_the_launcher_copies_the_code_and_no_secret(tmp_path):
    config, project, node = read("aws.yaml"), tmp_path / "project", tmp_path / "node"
    code = (
        *("runner/__main__.py", "runner/cli/sweep.py", "r2d2/network.py"),
        "evaluation/report/template/report.css",
    )
    planted = (
        *(".env", "mlflow/secrets/admin_password", "own.pem", ".git/config", ".r2d2/mlflow.db"),
        *(
            "runner/.env",
            "runner/cli/.netrc",
            "r2d2/secrets/key",
            "evaluation/aws.pem",
            "search_spaces/a.key",
        ),
    )
    for name in (*code, *planted, "search_spaces/study.py"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    excluded = [part for pattern in config["rsync_exclude"] for part in ("--exclude", pattern)]
    for target, source in config["file_mounts"].items():
        if source.startswith("~"):
            continue
        copy = node / Path(target).relative_to("/home/ray")
        copy.mkdir(parents=True)
        # As Ray copies a folder: its content, not following links out of it.
        subprocess.run(["rsync", "-a", *excluded, f"{project / source}/", str(copy)], check=True)
    copied = {str(path.relative_to(node / "r2d2")) for path in node.rglob("*") if path.is_file()}
    assert copied == {*code, "search_spaces/study.py"}


def test_rays_validation_would_refuse_a_misspelt_key():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config({**read("aws.yaml"), "idle_timeout_minuts": 3})
    with pytest.raises(Exception, match="idle_timeout_minuts"):
        validate_config(config)


def test_image_and_manifests_name_the_tested_release_of_ray(ray_version):
    assert f"ARG RAY_VERSION={ray_version}\n" in (CLUSTER / "Dockerfile").read_text()
    assert read("raycluster.yaml")["spec"]["rayVersion"] == ray_version


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_kuberay_knows_every_key_of_a_manifest(name):
    manifest = read(name)
    assert manifest["apiVersion"] == "ray.io/v1"
    assert kuberay_faults(manifest, manifest["kind"]) == []


def test_a_misspelt_key_a_wrong_choice_and_a_selector_beside_further_tries_are_found():
    cluster, job = read("raycluster.yaml"), read("rayjob.yaml")
    cluster["spec"]["autoscalerOptions"] |= {"upscalingMode": "Fast", "idleTimeout": 3}
    cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    del cluster["spec"]["workerGroupSpecs"][0]["template"]
    job["spec"]["clusterSelector"] = {"ray.io/cluster": "r2d2"}
    assert sorted(kuberay_faults(cluster, "RayCluster") + kuberay_faults(job, "RayJob")) == [
        "RayCluster.spec.autoscalerOptions has idleTimeout",
        "RayCluster.spec.autoscalerOptions.upscalingMode is Fast",
        "RayCluster.spec.headGroupSpec.rayStartParams.num-cpus is no text",
        "RayCluster.spec.workerGroupSpecs lacks template",
        "RayJob.spec has clusterSelector",
    ]


def test_the_job_brings_the_cluster_of_the_other_manifest_and_is_tried_again_on_a_new_one():
    job = read("rayjob.yaml")["spec"]
    assert job["rayClusterSpec"] == read("raycluster.yaml")["spec"]
    assert job["backoffLimit"] > 0
    assert job["shutdownAfterJobFinishes"] is True


def test_the_jobs_command_is_known_and_its_labels_are_those_of_the_head_alone():
    from runner.cli.sweep import sweep

    job = read("rayjob.yaml")["spec"]
    python, _, module, verb, *arguments = job["entrypoint"].split()
    assert (python, module, verb) == ("python", "runner", "sweep")
    labels = sweep.make_context("sweep", arguments).params["labels"]
    groups = [job["rayClusterSpec"]["headGroupSpec"], *job["rayClusterSpec"]["workerGroupSpecs"]]
    assert [is_selected(group["labels"], labels) for group in groups] == [True, False]
    types = read("aws.yaml")["available_node_types"]
    assert {name: is_selected(node["labels"], labels) for name, node in types.items()} == {
        "head": True,
        "gpu": False,
    }


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
