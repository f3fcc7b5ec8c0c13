"""Readers for the files of `cluster/`."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "cluster"
GUIDE = CLUSTER / "README.md"
MANIFESTS = [*sorted((CLUSTER / "kuberay").glob("*.yaml")), CLUSTER / "mlflow" / "mlflow.yaml"]

Document = dict[str, Any]


def documents(*files: Path) -> list[Document]:
    """All documents of some YAML files."""
    return [one for file in files for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))]


def document(file: str, kind: str, name: str | None = None) -> Document:
    """The only document of `cluster/<file>` with this kind (and name)."""
    found = [
        one
        for one in documents(CLUSTER / file)
        if one["kind"] == kind and name in (None, one["metadata"]["name"])
    ]
    (only,) = found
    return only


def ray_cluster_specs() -> list[Document]:
    """The cluster of raycluster.yaml and that of rayjob.yaml."""
    return [
        document("kuberay/raycluster.yaml", "RayCluster")["spec"],
        document("kuberay/rayjob.yaml", "RayJob")["spec"]["rayClusterSpec"],
    ]


def groups(cluster: Document) -> list[Document]:
    """The head's group and the workers'."""
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pods() -> Iterator[Document]:
    """The spec of every pod template in these files."""
    for cluster in ray_cluster_specs():
        for group in groups(cluster):
            yield group["template"]["spec"]
    for one in documents(*MANIFESTS):
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["spec"]["template"]["spec"]


def constraints() -> dict[str, str]:
    """Package -> version, as constraints.txt pins them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines)}


def project() -> Document:
    """The `[project]` of pyproject.toml."""
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def amount(quantity: str) -> float:
    """A Kubernetes quantity as a number: cores or bytes."""
    match = re.fullmatch(r"([\d.]+)(m|Ki|Mi|Gi|Ti)?", quantity)
    if match is None:
        raise ValueError(f"'{quantity}' is no quantity that these files use")
    factors = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(match[1]) * factors.get(match[2] or "", 1)
