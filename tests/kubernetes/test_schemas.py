"""The manifests are as Kubernetes' own schemas have it, and as KEDA's and Prometheus' operator document theirs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.kubernetes.crds import SCHEMAS
from tests.kubernetes.objects import KUBERNETES, OVERLAYS, one
from tests.kubernetes.rendering import Object, identity, read_objects, render

VERSIONS = ("1.30", "1.37")  # of Kubernetes: the oldest that is meant, and the newest known


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_as_its_schema_has_it(secret: Object, version: str) -> None:
    every = [secret, *(each for overlay in OVERLAYS for each in render(KUBERNETES / "overlays" / overlay))]
    for text in {json.dumps(each, sort_keys=True) for each in every}:  # most are the same in each overlay
        each = json.loads(text)
        schema = SCHEMAS.get((each["apiVersion"], each["kind"]))
        if schema is None:
            kubernetes_validate.validate(each, version, strict=True)
        else:
            jsonschema.Draft202012Validator(schema).validate(each)


def test_a_misspelt_field_would_be_found() -> None:
    deployment = one(render(KUBERNETES / "overlays" / "cpu"), "Deployment", "worker")
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)
    scaled = one(render(KUBERNETES / "overlays" / "cpu"), "ScaledObject", "worker")
    scaled["spec"]["coolDownPeriod"] = 60
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMAS[scaled["apiVersion"], "ScaledObject"]).validate(scaled)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubectl_makes_the_same_of_it(overlay: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl")
    directory = KUBERNETES / "overlays" / overlay
    made = subprocess.run(
        [kubectl, "kustomize", str(directory)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    # It names a ConfigMap after its content, so that a change of it rolls the pods.
    made = re.sub(r"\bwarmline-[0-9a-z]{10}\b(?!-)", "warmline", made)
    by_name = {identity(each): each for each in read_objects(made)}
    assert by_name == {identity(each): each for each in render(directory)}


def test_every_folder_is_used_by_an_overlay_or_told_of_in_the_guide() -> None:
    used: set[str] = set()
    for overlay in OVERLAYS:
        kustomization: Any = yaml.safe_load((KUBERNETES / "overlays" / overlay / "kustomization.yaml").read_text())
        used |= {Path(name).name for name in kustomization["components"]}
    rest = {path.name for path in (KUBERNETES / "components").iterdir()} - used
    assert rest == {"sqs"}
