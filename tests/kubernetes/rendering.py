"""What `kubectl apply -k` would send, as far as our overlays go: `kubectl` itself is not on every machine.

Resources, components, a ConfigMap from files, JSON patches by a target's kind and name, images, a namespace. What
is not understood is an error. A test compares it with `kubectl kustomize` where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
UNDERSTOOD = {
    "apiVersion", "kind", "namespace", "resources", "components", "configMapGenerator", "images", "patches",
}  # fmt: skip
WITHOUT_NAMESPACE = {"Namespace"}


def render(directory: Path) -> list[Object]:
    """The objects of an overlay."""
    return _build([], directory)


def _build(objects: list[Object], directory: Path) -> list[Object]:
    """What a kustomization makes of the objects that are there before it: a component changes them."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert set(kustomization) <= UNDERSTOOD, f"{directory}: {set(kustomization) - UNDERSTOOD}"
    for name in kustomization.get("resources", ()):
        path = directory / name
        added = _build([], path) if path.is_dir() else list(read_objects(path.read_text()))
        twice = {identity(each) for each in objects} & {identity(each) for each in added}
        assert not twice, f"{path}: {twice} is there already"
        objects = [*objects, *added]
    for generator in kustomization.get("configMapGenerator", ()):
        _generate(objects, generator, directory)
    for name in kustomization.get("components", ()):
        objects = _build(objects, directory / name)
    for patch in kustomization.get("patches", ()):
        _patch(objects, patch)
    for image in kustomization.get("images", ()):
        _rename(objects, image)
    if namespace := kustomization.get("namespace"):
        for each in objects:
            if each["kind"] not in WITHOUT_NAMESPACE:
                each["metadata"]["namespace"] = namespace
    return objects


def read_objects(text: str) -> Iterator[Object]:
    """The documents of a file."""
    for document in yaml.safe_load_all(text):
        if document is not None:
            yield document


def identity(each: Object) -> tuple[str, str]:
    """Kind and name."""
    return each["kind"], each["metadata"]["name"]


def pod_of(each: Object) -> Object | None:
    """The pod's specification in a Deployment, a StatefulSet or a Job; None for anything else."""
    found: Object | None = each.get("spec", {}).get("template", {}).get("spec")
    return found


def containers_of(pod: Object) -> list[Object]:
    """Its containers, those that run first included."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def _generate(objects: list[Object], generator: Object, directory: Path) -> None:
    lines = [line for name in generator["envs"] for line in (directory / name).read_text().splitlines()]
    data = dict(line.split("=", 1) for line in lines if line.strip() and not line.startswith("#"))
    if generator.get("behavior") == "merge":
        (there,) = [each for each in objects if identity(each) == ("ConfigMap", generator["name"])]
        there["data"] = {**there["data"], **data}
    else:
        metadata = {"name": generator["name"]}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _patch(objects: list[Object], patch: Object) -> None:
    target = patch["target"]
    chosen = [
        each
        for each in objects
        if each["kind"] == target["kind"] and re.fullmatch(target["name"], each["metadata"]["name"])
    ]
    assert chosen, f"nothing is {target}"
    for each in chosen:
        for step in yaml.safe_load(patch["patch"]):
            *way, last = step["path"].strip("/").split("/")
            place: Any = each
            for key in way:
                place = place[int(key) if isinstance(place, list) else key]
            at = int(last) if isinstance(place, list) else last
            match step["op"]:
                case "test":
                    assert place[at] == step["value"], f"{step['path']} is {place[at]}"
                case "replace":
                    assert place[at] is not None
                    place[at] = step["value"]
                case other:
                    raise AssertionError(f"{other} is not understood")


def _rename(objects: list[Object], image: Object) -> None:
    for each in objects:
        for container in containers_of(pod) if (pod := pod_of(each)) else ():
            name, _, tag = container["image"].partition(":")
            if name == image["name"]:
                container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"
