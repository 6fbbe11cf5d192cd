"""Checks custom resources by the schemas of their definitions, as strictly as the API server with
fieldValidation=Strict, and sorts out what Kubernetes knows itself.

    custom_resources.py --builtin OUT MANIFEST DEFINITION...
"""

import argparse
import sys

import jsonschema
import yaml


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--builtin", required=True, help="where the objects of Kubernetes' own kinds go")
    arguments.add_argument("manifest")
    arguments.add_argument("definitions", nargs="+")
    arguments = arguments.parse_args()

    schemas = {}
    for path in arguments.definitions:
        definition = yaml.safe_load(open(path))["spec"]
        for version in definition["versions"]:
            key = f"{definition['group']}/{version['name']}", definition["names"]["kind"]
            schemas[key] = strict(version["schema"]["openAPIV3Schema"])

    builtin, mistakes = [], []
    for document in yaml.safe_load_all(open(arguments.manifest)):
        if not document:
            continue
        kind = document["apiVersion"], document["kind"]
        if kind in schemas:
            mistakes += errors(schemas[kind], document)
        else:
            # A group with a full domain is no group of Kubernetes, and its definition is missing here.
            group = kind[0].split("/")[0]
            if "." in group and not group.endswith(".k8s.io"):
                mistakes.append(f"{kind[1]} of {kind[0]}: no definition was given")
            builtin.append(document)
    with open(arguments.builtin, "w") as out:
        yaml.safe_dump_all(builtin, out)
    if mistakes:
        sys.exit("\n".join(f"{arguments.manifest}: {mistake}" for mistake in mistakes))


def strict(schema):
    """OpenAPI as Kubernetes writes it, as JSON Schema that refuses unknown fields."""
    if not isinstance(schema, dict):
        return schema
    schema = dict(schema)
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
        schema["type"] = ["integer", "string"]
    if schema.pop("nullable", False) and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    # Go's regular expressions and formats are not Python's.
    schema.pop("format", None)
    properties = schema.get("properties")
    if properties is not None:
        schema["properties"] = {name: strict(value) for name, value in properties.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
    for key in ["items", "additionalProperties", "not"]:
        if key in schema:
            schema[key] = strict(schema[key])
    return schema


def errors(schema, document):
    schema = dict(schema, properties=dict(schema["properties"], metadata={"type": "object"}))
    for error in jsonschema.Draft7Validator(schema).iter_errors(document):
        place = "/".join(str(part) for part in error.absolute_path)
        yield f"{document['kind']}: {place}: {error.message}"


main()
