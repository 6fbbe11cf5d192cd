"""Holds a bill of materials to its schema and to what cargo links: bill_of_materials.py FILE."""

import json
import re
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = Path(sys.argv[1]).read_text()
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
assert error is None, error

bill = json.loads(text)
assert "serialNumber" not in bill, "a random number makes two bills differ"
assert "/home/" not in text and str(Path.cwd()) not in text, "it tells where it was made"
assert bill["metadata"]["component"]["name"] == "token-broker"

components = {(each["name"], each["version"]): each for each in bill["components"]}
assert len(components) == len(bill["components"]), "a crate is listed twice"
for name in ["rust-std", "glibc"]:
    assert [each for each in components if each[0] == name], f"{name} is linked too"
of_crates = {key: each for key, each in components.items() if each["purl"].startswith("pkg:cargo/")}
assert len(components) == len(of_crates) + 2, components.keys() - of_crates.keys()
for key, each in of_crates.items():
    assert each["purl"] == "pkg:cargo/{}@{}".format(*key), each["purl"]
    assert each.get("licenses"), f"{key} has no licence"
    assert [hash["alg"] for hash in each["hashes"]] == ["SHA-256"], f"{key} has no checksum"

host = re.search(r"^host: (.*)$", subprocess.check_output(["rustc", "-vV"], text=True), re.M)[1]


def crates(edges: str) -> set:
    tree = subprocess.check_output(
        ["cargo", "tree", "--locked", "--edges", edges, "--prefix", "none", "--target", host, "--format", "{p}"],
        text=True,
    )
    found = set(re.findall(r"^(\S+) v(\S+)(?: \(proc-macro\))?(?: \(\*\))?$", tree, re.M))
    assert len(found) > 100, tree
    return found


def same(what: str, bill: set, cargo: set) -> None:
    assert bill == cargo, f"{what}: only the bill has {sorted(bill - cargo)}, only cargo {sorted(cargo - bill)}"


linked = {key for key, each in of_crates.items() if each["scope"] == "required"}
same("linked", linked, crates("normal,no-proc-macro"))
same("built with", set(of_crates), crates("normal"))
print(f"the bill of materials has the {len(linked)} crates that are linked, and {len(of_crates) - len(linked)} macros")
