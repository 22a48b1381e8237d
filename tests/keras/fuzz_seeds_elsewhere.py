"""Writes the seeds of the fuzz targets tfjs, saved_model, npz, sharded and hugging_face, from golden files.

Run from the repository root, in a venv with `pip install numpy`:
    python tests/keras/fuzz_seeds_elsewhere.py
"""

import gzip
import io
import json
import os

import numpy as np

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
GOLDEN = os.path.join(ROOT, "tests", "golden")


def read(*parts):
    with open(os.path.join(GOLDEN, *parts), "rb") as file:
        return file.read()


def write(target, name, data):
    folder = os.path.join(ROOT, "fuzz", "seeds", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)


def padded(text, unit):
    """JSON with spaces behind it, so that its length is a multiple of the unit, and that multiple."""
    text += b" " * (-len(text) % unit)
    return bytes([len(text) // unit]), text


def safetensors(tensors):
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + bytes(end)


def main():
    for name in ("teachable", "uint8"):
        metadata = read("tfjs", name, "metadata.json") if name == "teachable" else b""
        count, metadata = padded(metadata, 4)
        write("tfjs", name, count + metadata + read("tfjs", name, "model.json"))

    write("saved_model", "keras2", b"\1" + read("saved_model", "keras2", "keras_metadata.pb"))
    write("saved_model", "keras24", b"\0" + read("saved_model", "keras24", "saved_model.pb"))
    write("saved_model", "exported", b"\0" + read("saved_model", "exported", "saved_model.pb"))

    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, np.ones((2, 3), np.float32))
    write("npz", "array", b"\1" + array.getvalue())
    np.savez(archive, *[np.ones(shape, np.float32) for shape in ((3, 3), (3,))])
    write("npz", "order.npz", archive.getvalue())

    listed = {f"/layers/{layer}/vars": ["x_00000.weights.h5"] for layer in ("conv2d", "dense")}
    write("sharded", "index.json", json.dumps({"metadata": {}, "weight_map": listed}).encode())

    for name in ("timm_tf_efficientnet_b1", "transformers_resnet"):
        golden = json.loads(gzip.decompress(read("torch", f"{name}.json.gz")))
        first = dict(list(golden["tensors"].items())[:3])
        config = padded(json.dumps(golden["config"]).encode(), 8)
        preprocessor = padded(json.dumps(golden.get("preprocessor")).encode() if "preprocessor" in golden else b"", 4)
        write("hugging_face", name, config[0] + preprocessor[0] + config[1] + preprocessor[1] + safetensors(first))


main()
