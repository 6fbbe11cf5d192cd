"""Lays out the files of a Pod as its volumes and mounts say.

    pod.py MANIFEST GIVEN ROOT

The contents of Secrets and ConfigMaps come from the manifest, and otherwise from the folder GIVEN, where a file is
named as their key. Paths in the mounted configuration get ROOT before them. What the sidecar for SPIFFE writes is
there as its own configuration names it.
"""

import re
import shutil
import sys
from pathlib import Path

import yaml

# What a Secret has when nobody says which of its keys are mounted.
KEYS_OF_A_CREDENTIAL = ["client_id", "client_secret"]


def main(manifest, given, root):
    documents = [d for d in yaml.safe_load_all(Path(manifest).read_text()) if d]
    (deployment,) = [d for d in documents if d["kind"] == "Deployment"]
    config_maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    pod = deployment["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}

    for container in pod.get("initContainers", []) + pod["containers"]:
        for mount in container["volumeMounts"]:
            folder = Path(root + mount["mountPath"])
            folder.mkdir(parents=True, exist_ok=True)
            for source in sources(volumes[mount["name"]]):
                lay_out(source, config_maps, Path(given), folder)
        if container["name"] == "spiffe-helper":
            helper_files(Path(root), Path(given))

    (broker,) = pod["containers"]
    configuration = Path(root + broker["args"][-1])
    text = configuration.read_text()
    # Only quoted values that begin with a slash are paths.
    configuration.write_text(re.sub(r'"(/[^"]+)"', rf'"{root}\1"', text))


def sources(volume):
    """The Secrets and ConfigMaps of a volume, projected or not."""
    if "projected" in volume:
        return volume["projected"]["sources"]
    return [volume] if "secret" in volume or "configMap" in volume else []


def lay_out(source, config_maps, given, folder):
    object_ = source.get("secret") or source["configMap"]
    name = object_.get("secretName") or object_["name"]
    held = config_maps.get(name) if "configMap" in source else None
    keys = list(held) if held else KEYS_OF_A_CREDENTIAL
    for item in object_.get("items") or [{"key": key, "path": key} for key in keys]:
        target = folder / item["path"]
        if held:
            target.write_text(held[item["key"]])
        else:
            shutil.copy(given / item["key"], target)


def helper_files(root, given):
    """The sidecar's three files, by the names that its configuration says."""
    text = (root / "etc/spiffe-helper/helper.conf").read_text()
    settings = dict(re.findall(r'^\s*(\w+) = "?([^"\n]*)"?$', text, re.MULTILINE))
    folder = Path(str(root) + settings["cert_dir"])
    for key in ["svid_file_name", "svid_key_file_name", "svid_bundle_file_name"]:
        shutil.copy(given / settings[key], folder / settings[key])


main(*sys.argv[1:])
