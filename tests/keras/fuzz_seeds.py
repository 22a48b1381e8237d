"""Writes fuzz/seeds/: a small file in every layout, for the fuzz targets to start from.

Run from the repository root, in the venv of tests/keras/checkpoints.py:
    python tests/keras/fuzz_seeds.py
"""

import json
import os
import shutil
import sys
import zipfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import h5py
import keras
import numpy as np
import onnx
import tf_keras
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(__file__))
import checkpoints

SEEDS = os.path.join(os.path.dirname(__file__), "..", "..", "fuzz", "seeds")


def small(K):
    L = K.layers
    inner = K.Sequential([K.Input((8, 8, 3)), L.Conv2D(2, 3, strides=2, use_bias=False), L.BatchNormalization(), L.ReLU(6.0)])
    return K.Sequential([L.Rescaling(1 / 127.5, -1), inner, L.DepthwiseConv2D(3), L.GlobalAveragePooling2D(), L.Dense(2, activation="softmax")])


def tensorflow():
    """Tables as fuzz/targets/tf_checkpoint.rs takes them: as they are, and as two blocks, to which it adds CRCs."""
    import tf_checkpoints

    folder = os.path.join(SEEDS, "tf_checkpoint")
    os.makedirs(folder, exist_ok=True)
    for name in ("slim_v1.ckpt", "types_v1.ckpt", "types_v2.ckpt.index", "keras2_checkpoint.index"):
        with open(tf_checkpoints.place(name), "rb") as file:
            table = file.read()
        numbers, value, shift = [], 0, 0
        for byte in table[-48:-8]:
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                numbers.append(value)
                value, shift = 0, 0
        # The index ends the table, in front of it is an empty block of 8 bytes, and in front of that the only one of data.
        first, index = table[: numbers[0] - 5], table[numbers[2] : numbers[2] + numbers[3]]
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"\1" + len(first).to_bytes(2, "little") + first + index)
        with open(os.path.join(folder, "whole_" + name), "wb") as file:
            file.write(b"\0" + table)


def lite():
    """What TensorFlow's converter makes of small models, and what its metadata writer adds."""
    folder, golden = os.path.join(SEEDS, "tflite"), os.path.join(SEEDS, "..", "..", "tests", "golden", "tflite")
    os.makedirs(folder, exist_ok=True)
    for name in ("mobile", "norms", "shapes", "pixels", "dilated", "functions", "said", "bytes", "integers"):
        shutil.copy(os.path.join(golden, f"{name}.tflite"), folder)


def main():
    tensorflow()
    lite()
    place = lambda target, name: os.path.join(SEEDS, target, name)
    for target in ("config", "hdf5", "keras", "onnx", "safetensors"):
        os.makedirs(os.path.join(SEEDS, target), exist_ok=True)
    for K, tag in ((keras, "keras3"), (tf_keras, "keras2")):
        model = small(K)
        model.build((None, 8, 8, 3))
        model(np.zeros((1, 8, 8, 3), np.float32))
        model.save(place("hdf5", f"{tag}_model.h5"))
        model.save_weights(place("hdf5", f"{tag}.weights.h5"))
        model.save(place("keras", f"{tag}.keras"))
        with zipfile.ZipFile(place("keras", f"{tag}.keras")) as archive, open(place("config", f"{tag}.json"), "wb") as file:
            file.write(archive.read("config.json"))
        checkpoints.onnx_of(K, model, place("onnx", f"{tag}.onnx"))
        if K is tf_keras:
            model.save_weights(place("hdf5", "plain.h5"))
            checkpoints.rewritten(place("hdf5", "plain.h5"), place("hdf5", "chunked.h5"), np.float16)
    graph = onnx.load(place("onnx", "keras3.onnx"))
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).reshape(-1).tolist()
            tensor.ClearField("raw_data")
            tensor.float_data.extend(values)
    onnx.save(graph, place("onnx", "floats.onnx"))
    tensors = {"Conv1/kernel": np.ones((3, 3, 3, 2), np.float32), "block/bn_Conv1/gamma:0": np.ones(2, np.float16)}
    save_file(tensors, place("safetensors", "plain.safetensors"))
    card = {"format": 1, "architecture": {"name": "mobilenet-v2", "alpha": 1.0, "size": 32, "classes": None}, "preprocessing": "tf"}
    save_file(tensors, place("safetensors", "card.safetensors"), metadata={"rekindle": json.dumps(card), "sha256": "0"})
    with open(place("safetensors", "index.json"), "w") as file:
        json.dump({"metadata": {}, "weight_map": {"Conv1/kernel": "plain.safetensors"}}, file)


if __name__ == "__main__":
    main()
