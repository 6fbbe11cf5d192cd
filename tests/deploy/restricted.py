"""Holds the Pods of a manifest to Kubernetes' restricted Pod Security Standard, and to what this project adds: nothing
that can be written but what is mounted for it, no token of the cluster, and known needs.

    restricted.py MANIFEST
"""

import sys

import yaml


def main(manifest):
    with open(manifest) as text:
        documents = [d for d in yaml.safe_load_all(text) if d]
    pods = [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"]
    if not pods:
        sys.exit(f"{manifest}: no Deployment")
    if mistakes := [mistake for pod in pods for mistake in looked_at(pod)]:
        sys.exit("\n".join(f"{manifest}: {mistake}" for mistake in mistakes))


def looked_at(pod):
    security = pod["securityContext"]
    if not (security.get("runAsNonRoot") and security.get("runAsUser")):
        yield "may run as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"
    if pod.get("automountServiceAccountToken") is not False:
        yield "gets a token of the cluster"
    for shared in ["hostNetwork", "hostPID", "hostIPC"]:
        if pod.get(shared):
            yield f"has {shared}"
    for volume in pod["volumes"]:
        if set(volume) - {"name", "configMap", "secret", "projected", "emptyDir", "csi"}:
            yield f"has a volume of another kind: {volume['name']}"
    for container in pod.get("initContainers", []) + pod["containers"]:
        for mistake in looked_into(container):
            yield f"{container['name']} {mistake}"


def looked_into(container):
    expected = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if container.get("securityContext") != expected:
        yield "has another security context"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
        yield "does not say what it needs"
    if "livenessProbe" not in container or "startupProbe" not in container:
        yield "is not probed"
    for mount in container["volumeMounts"]:
        if "subPath" in mount:
            yield f"would not see changes in {mount['mountPath']}"


main(*sys.argv[1:])
