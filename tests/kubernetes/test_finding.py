"""Who finds whom: services, budgets, monitors, network policies, and what scaling follows."""

from __future__ import annotations

import re
import subprocess

import jsonschema
import pytest
import yaml

from tests.kubernetes.crds import SCHEMAS
from tests.kubernetes.objects import KUBERNETES, ROOT, SHELL, decoded, one, pods
from tests.kubernetes.rendering import Object, pod_of, read_objects, render
from warmline.jobs.backlog import Backlog


def labels(objects: list[Object]) -> list[dict[str, str]]:
    return [each["spec"]["template"]["metadata"]["labels"] for each in objects if pod_of(each)]


def selected(selector: Object, all_labels: list[dict[str, str]]) -> list[dict[str, str]]:
    wanted = selector.get("matchLabels", {})
    assert {each["operator"] for each in selector.get("matchExpressions", ())} <= {"In"}
    return [
        each
        for each in all_labels
        if wanted.items() <= each.items()
        and all(each.get(one_of["key"]) in one_of["values"] for one_of in selector.get("matchExpressions", ()))
    ]


def test_services_budgets_and_monitors_find_pods(objects: list[Object]) -> None:
    there = labels(objects)
    names = {
        port["name"]
        for _, pod in pods(objects)
        for container in pod["containers"]
        for port in container.get("ports", ())
    }
    for each in objects:
        spec = each.get("spec", {})
        match each["kind"]:
            case "Service":
                assert len(selected({"matchLabels": spec["selector"]}, there)) == 1
                assert {port["targetPort"] for port in spec["ports"]} <= names
            case "PodDisruptionBudget":
                assert len(selected(spec["selector"], there)) == 1
                one(objects, "Deployment", each["metadata"]["name"])
                assert "maxUnavailable" in spec  # minAvailable holds up a node's drain where there is one replica
                assert "minAvailable" not in spec
            case "PodMonitor":
                assert selected(spec["selector"], there)
                assert {end["port"] for end in spec["podMetricsEndpoints"]} <= names
            case "ServiceMonitor":
                services = [s for s in objects if s["kind"] == "Service"]
                found = selected(spec["selector"], [s["metadata"].get("labels", {}) for s in services])
                assert len(found) == 1
            case "Deployment" | "StatefulSet":
                assert len(selected(spec["selector"], there)) == 1
    budgets = {each["metadata"]["name"] for each in objects if each["kind"] == "PodDisruptionBudget"}
    assert "api" in budgets
    assert budgets & {"worker", "worker-gpu"}


def test_network_policies_open_the_ports_that_are_used_and_no_others(objects: list[Object]) -> None:
    there = labels(objects)
    open_ports: dict[str, set[int]] = {}
    shut = False
    for each in objects:
        if each["kind"] != "NetworkPolicy" or each["spec"]["policyTypes"] != ["Ingress"]:
            continue
        shut = shut or (each["spec"]["podSelector"] == {} and not each["spec"].get("ingress"))
        for rule in each["spec"].get("ingress", ()):
            for pod in selected(each["spec"]["podSelector"], there):
                name = pod["app.kubernetes.io/name"]
                open_ports.setdefault(name, set()).update(port["port"] for port in rule["ports"])
    assert shut
    listening = {
        name: {port["containerPort"] for container in pod["containers"] for port in container.get("ports", ())}
        for name, pod in pods(objects)
    }
    assert open_ports == {name: found for name, found in listening.items() if found and name != "flower"}


def test_a_worker_for_gpus_asks_for_one() -> None:
    pod = pod_of(one(render(KUBERNETES / "overlays" / "gpu"), "Deployment", "worker-gpu"))
    assert pod
    (worker,) = pod["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["image"].endswith("-cuda")
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert {"name": "WARMLINE_DEVICE", "value": "cuda"} in worker["env"]
    # The hub is asked by one Job; a worker's pod waits for what that brings.
    assert "warmline model pull" not in str(pod)
    assert "warmline model pull" in str(one(render(KUBERNETES / "overlays" / "gpu"), "Job", "fetch-model"))


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_scaling_follows_waiting_and_running_jobs(overlay: str, secret: Object, paths: set[str]) -> None:
    objects = render(KUBERNETES / "overlays" / overlay)
    (scaled,) = [each for each in objects if each["kind"] == "ScaledObject"]
    spec = scaled["spec"]
    target = one(objects, "Deployment", spec["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"]  # else each `kubectl apply` would undo what KEDA did
    (trigger,) = spec["triggers"]
    metadata = trigger["metadata"]
    assert metadata["valueLocation"] == "work"
    assert "waiting + running" in str(Backlog.model_fields["work"].description)
    path = re.fullmatch(r"http://api\.warmline\.svc:8000(/.*)", metadata["url"])
    assert path
    assert path[1] in paths
    assert trigger["metricType"] == "AverageValue"  # `fallback` knows no other
    authentication = one(objects, "TriggerAuthentication", trigger["authenticationRef"]["name"])
    (token,) = authentication["spec"]["secretTargetRef"]
    assert token == {"parameter": "token", "name": "warmline", "key": "scaler-key"}
    assert decoded(secret, "scaler-key") in decoded(secret, "api-keys").split(b",")
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] >= 300
    assert spec["minReplicaCount"] < spec["maxReplicaCount"]


def test_prometheus_rules_become_a_resource_of_its_operator() -> None:
    guide = (ROOT / "docs" / "deploy.md").read_text()
    (command,) = re.findall(
        r"^(\(cat deploy/kubernetes/prometheus-rule.*?\)) \| kubectl apply", guide, re.MULTILINE
    )
    made = subprocess.run([SHELL, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    (rule,) = read_objects(made.stdout)
    jsonschema.Draft202012Validator(SCHEMAS["monitoring.coreos.com/v1", "PrometheusRule"]).validate(rule)
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
