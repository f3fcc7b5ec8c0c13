"""Every Kubernetes object against Kubernetes' own schema, and against the objects that it names."""

import copy
import re

import kubernetes_validate
import pytest
from cluster_files import GUIDE, MANIFESTS, Document, documents, pods

KUBERNETES = "1.34"
OBJECTS = [one for one in documents(*MANIFESTS) if not one["apiVersion"].startswith("ray.io/")]
PODS = list(pods())


def check(one: Document) -> None:
    kubernetes_validate.validate(one, KUBERNETES, strict=True)


def as_pod(spec: Document) -> Document:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": spec}


def named(kind: str) -> set[str]:
    return {one["metadata"]["name"] for one in OBJECTS if one["kind"] == kind}


def containers() -> list[Document]:
    return [container for pod in PODS for container in pod["containers"]]


def test_there_are_objects_and_pods_to_check():
    assert {one["kind"] for one in OBJECTS} >= {"ConfigMap", "Deployment", "Service"}
    assert len(PODS) > 1


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_object_matches_the_schema(one):
    check(one)  # raises; see test_a_wrong_field_is_found


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["containers"][0]["name"])
def test_pod_matches_the_schema(pod):
    check(as_pod(pod))


def test_a_wrong_field_is_found():
    pod = copy.deepcopy(PODS[0])
    pod["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="volumeMount"):
        check(as_pod(pod))


def test_what_pods_name_exists():
    secrets = set(re.findall(r"create secret generic (\S+)", GUIDE.read_text(encoding="utf-8")))
    for pod in PODS:
        assert {pod.get("serviceAccountName", "")} <= {"", *named("ServiceAccount")}
        volumes = {volume["name"] for volume in pod["volumes"]} if "volumes" in pod else set()
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                for kind, known in (
                    ("configMapRef", named("ConfigMap")),
                    ("secretRef", secrets),
                ):
                    assert {source.get(kind, {}).get("name", "")} <= {"", *known}
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                assert reference is None or reference["name"] in secrets
            if container["name"] != "postgres":  # its volume is the StatefulSet's claim
                assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_services_lead_to_ports_of_pods():
    for service in (one for one in OBJECTS if one["kind"] == "Service"):
        targets = [
            one["spec"]["template"]["spec"]["containers"][0]
            for one in OBJECTS
            if one["kind"] in ("Deployment", "StatefulSet")
            and one["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]
            and one["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
        ]
        (target,) = targets
        ports = {port["name"]: port["containerPort"] for port in target["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]


def test_no_pod_has_more_rights_than_it_needs():
    for pod in PODS:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        for container in pod["containers"]:
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
