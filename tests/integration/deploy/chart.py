"""Holds values of the chart for tests, and finds parts of the manifests that it gives."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate

from tests.integration.deploy.helm import Manifest

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "emqx-im"
GIVEN: dict[str, Any] = {"redis": {"url": "redis://:r@redis:6379/0"}, "archive": {"url": "mysql://im:a@mysql:3306/im"}}
BROKER = {"apiUrl": "http://broker:18083", "apiKey": "key-of-api", "apiSecret": "secret-of-api"}
OLDEST, NEWEST = "1.27", "1.34"
"""Versions of Kubernetes that the manifests are held against; the chart asks for the oldest."""

OPERATOR = "monitoring.coreos.com/v1"
"""Kinds of the Prometheus operator, of which there is no schema."""

Render = Callable[..., tuple[list[Manifest], str]]


def of_kind(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    return next(manifest for manifest in found if not name or manifest["metadata"]["name"] == name)


def secrets(manifests: list[Manifest], name: str = "emqx-im") -> dict[str, str]:
    data: dict[str, str] = of_kind(manifests, "Secret", name)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def installed(manifest: Manifest) -> Manifest:
    """As it stands in the cluster, with Helm's mark of whose it is."""
    mark = {"meta.helm.sh/release-name": "emqx-im", "meta.helm.sh/release-namespace": "default"}
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "annotations": {**metadata["annotations"], **mark}}}


def pods(manifests: list[Manifest]) -> list[Manifest]:
    """Returns the specification of every pod of the chart's own image."""
    found = []
    for manifest in manifests:
        match manifest["kind"]:
            case "Deployment" | "Job":
                found.append(manifest["spec"]["template"]["spec"])
            case "CronJob":
                found.append(manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"])
    return found


def validate(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["apiVersion"] == OPERATOR:
            assert manifest["spec"]
            continue
        for version in (OLDEST, NEWEST):
            kubernetes_validate.validate(manifest, version, strict=True)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names))
