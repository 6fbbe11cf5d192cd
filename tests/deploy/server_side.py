"""Has a Kubernetes API server look at manifests as `kubectl apply --dry-run=server` would: defaults, validation, unknown
fields, and Pod Security at its strictest for the Pods.

    server_side.py SERVER TOKEN --definitions FILE... --manifests FILE...
"""

import argparse
import json
import ssl
import sys
import time
import urllib.error
import urllib.request

import yaml

NAMESPACE = "token-broker"


class Server:
    def __init__(self, address, token):
        self.address, self.token = address, token
        self.context = ssl._create_unverified_context()  # made for this run, on loopback

    def post(self, path, document):
        request = urllib.request.Request(
            self.address + path,
            json.dumps(document).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, context=self.context) as answer:
                warnings = answer.headers.get_all("Warning") or []
                return None if not warnings else "; ".join(warnings)
        except urllib.error.HTTPError as error:
            return json.load(error)["message"]

    def get(self, path):
        request = urllib.request.Request(self.address + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, context=self.context) as answer:
            return json.load(answer)

    def path_of(self, api, kind):
        """Where objects of a kind are created; what a new definition makes may take a moment to be there."""
        prefix = f"/apis/{api}" if "/" in api else f"/api/{api}"
        for _ in range(100):
            try:
                for resource in self.get(prefix)["resources"]:
                    if resource["kind"] == kind and "/" not in resource["name"]:
                        scope = f"/namespaces/{NAMESPACE}" if resource["namespaced"] else ""
                        return f"{prefix}{scope}/{resource['name']}"
            except urllib.error.HTTPError:
                pass
            time.sleep(0.1)
        sys.exit(f"the server knows no {kind} of {api}")


def documents(files):
    for file in files:
        with open(file) as text:
            yield from ((file, document) for document in yaml.safe_load_all(text) if document)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("server")
    arguments.add_argument("token")
    arguments.add_argument("--definitions", nargs="+", default=[])
    arguments.add_argument("--manifests", nargs="+", required=True)
    arguments = arguments.parse_args()
    server = Server(arguments.server, arguments.token)

    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ["enforce", "warn"]}
    server.post("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": labels}})
    for file, definition in documents(arguments.definitions):
        if mistake := server.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition):
            print(f"{file}: {mistake}", file=sys.stderr)

    failed = seen = 0
    for file, document in documents(arguments.manifests):
        looked_at = [document]
        if document["kind"] == "Deployment":
            # Pod Security judges Pods; of what makes them it only warns.
            pod = document["spec"]["template"]
            looked_at.append({"apiVersion": "v1", "kind": "Pod", **pod, "metadata": {**pod["metadata"], "name": "one"}})
        for one in looked_at:
            path = server.path_of(one["apiVersion"], one["kind"])
            seen += 1
            if mistake := server.post(f"{path}?dryRun=All&fieldValidation=Strict", one):
                failed += 1
                print(f"{file}: {one['kind']}: {mistake}", file=sys.stderr)
    print(f"{seen} objects, {failed} of them with mistakes or warnings")
    sys.exit(failed > 0)


main()
