"""Prints the table of docs/reliability.md: how many cases of peers' tests pass, and how many are refused.

Run from the repository root, it needs nothing but Python:
    python tests/keras/refused_table.py
"""

import collections
import gzip
import json
import os

HERE = os.path.dirname(__file__)
GOLDEN = os.path.join(HERE, "..", "golden")
READERS = os.path.join(HERE, "..", "..", "crates", "rekindle-weights", "src")


def refused(reader: str) -> set[str]:
    with open(os.path.join(READERS, reader, "refused.txt"), encoding="utf-8") as file:
        return {line.rstrip("\n").split("\t")[0] for line in file if not line.startswith("#")}


def cases_of(path: str) -> list[dict]:
    """The cases in the metadata of a gzipped safetensors file."""
    with gzip.open(path) as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(json.loads(file.read(length))["__metadata__"]["cases"])


def table(title: str, rows: dict[str, list[int]]) -> None:
    print(f"| {title} | pass | refused |\n| --- | --- | --- |")
    for name, (passed, no) in sorted(rows.items()):
        print(f"| {name} | {passed} | {no} |")
    print(f"| all | {sum(row[0] for row in rows.values())} | {sum(row[1] for row in rows.values())} |\n")


def main() -> None:
    keras, rows = refused("keras"), collections.defaultdict(lambda: [0, 0])
    files = [os.path.join(GOLDEN, "layers", name) for name in sorted(os.listdir(os.path.join(GOLDEN, "layers")))]
    for path in [*files, os.path.join(GOLDEN, "setting_changes.safetensors.gz")]:
        group = os.path.basename(path).split(".")[0]
        for case in cases_of(path):
            rows[group][f"{group}: {case['name']}" in keras] += 1
    table("Keras's layers", rows)

    onnx, rows = refused("onnx"), collections.defaultdict(lambda: [0, 0])
    with open(os.path.join(GOLDEN, "onnx", "nodes.json"), encoding="utf-8") as file:
        for case in json.load(file)["cases"]:
            rows[" + ".join(sorted(set(case["operators"])))][case["name"] in onnx] += 1
    table("ONNX's operators", rows)


if __name__ == "__main__":
    main()
