"""Fits a head on an InceptionV3 that was really trained, with Keras and with us, and prints accuracies and losses of three seeds.

The only one in a package registry: nsfwjs 4.4.0 (npm, MIT), Keras's ImageNet network trained on, in 8 bits; its classes do not
matter here. From the repository root, in a venv with `pip install tensorflow-cpu pillow safetensors`:
    npm pack nsfwjs@4.4.0 && tar xzf nsfwjs-4.4.0.tgz
    cargo build --release --bin rekindle
    python tests/keras/real_inception.py package/dist/models/inception_v3 [--size 96] [--seeds 3]
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np

sys.path.insert(0, os.path.dirname(__file__))
import fit

REKINDLE = os.path.join(fit.ROOT, "target", "release", "rekindle")


def values(folder):
    """Each weight by its name; the bytes of all, scaled, lie one after the other in strings of JavaScript."""
    manifest = open(os.path.join(folder, "model.min.js")).read()
    entry = r'\{name:"([^"]+)",shape:\[([\d,]*)\],dtype:"float32",quantization:\{min:([-\d.e]+),scale:([-\d.e]+),dtype:"uint8"\}\}'
    manifest = re.sub(r'"(name|shape|dtype|quantization|min|scale)":', r"\1:", manifest)
    shards = [open(os.path.join(folder, f"group1-shard{i}of6.min.js")).read() for i in range(1, 7)]
    data = b"".join(base64.b64decode(max(re.findall(r'"([A-Za-z0-9+/=]{1000,})"', shard), key=len)) for shard in shards)
    found, offset = {}, 0
    for name, shape, low, scale in re.findall(entry, manifest):
        shape = tuple(int(size) for size in shape.split(","))
        count = int(np.prod(shape))
        codes = np.frombuffer(data, np.uint8, count, offset).reshape(shape).astype(np.float32)
        found[name], offset = codes * np.float32(float(scale)) + np.float32(float(low)), offset + count
    assert offset == len(data), f"{offset} of {len(data)} bytes"
    return found


def network(weights):
    base = keras.applications.InceptionV3(input_shape=(299, 299, 3), include_top=False, weights=None)
    number = lambda name: int((re.search(r"_(\d+)$", name) or [0, 0])[1])
    for kind, layer, names in (
        (keras.layers.Conv2D, "conv2d", ["kernel"]),
        (keras.layers.BatchNormalization, "batch_normalization", ["beta", "moving_mean", "moving_variance"]),
    ):
        own = sorted((l for l in base.layers if isinstance(l, kind)), key=lambda l: number(l.name))
        for position, target in enumerate(own, 1):
            target.set_weights([weights[f"{layer}_{position}/{name}"] for name in names])
    return base


def ours(file, folder, size, seed):
    report = os.path.join(folder, "report.json")
    command = [REKINDLE, "train", os.path.join(folder, "False"), "--valid-dir", os.path.join(folder, "True"), "--base",
               "inception-v3", "--weights", file, "--size", str(size), "--epochs", "20", "--batch", "16", "--seed", str(seed), "--plain",
               "--out", os.path.join(folder, "model.rekindle"), "--report", report]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    last = json.load(open(report))["epochs"][-1]
    return last["val_accuracy"], last["loss"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    fit.SIZE = args.size
    trained = network(values(args.folder))
    base = keras.applications.InceptionV3(input_shape=(args.size, args.size, 3), include_top=False, weights=None)
    base.set_weights(trained.get_weights())
    data = fit.photos()
    features = {valid: (base.predict(x, verbose=0), y) for valid, (x, y) in data.items()}
    L, results = keras.layers, {"keras": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "inception_v3.weights.h5")
        base.save_weights(file)
        photos = os.path.join(fit.ROOT, "demo", "photos")
        for name in os.listdir(photos):
            for number, photo in enumerate(sorted(os.listdir(os.path.join(photos, name)))):
                to = os.path.join(folder, str(number % 3 == 0), name)
                os.makedirs(to, exist_ok=True)
                shutil.copy(os.path.join(photos, name, photo), to)
        for seed in range(args.seeds):
            keras.utils.set_random_seed(seed)
            head = keras.Sequential([L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(5, activation="softmax")])
            head.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
            history = head.fit(*features[False], epochs=20, batch_size=16, verbose=0, validation_data=features[True]).history
            results["keras"].append((history["val_accuracy"][-1], history["loss"][-1]))
            results["ours"].append(ours(file, folder, args.size, seed))
    for name, rows in results.items():
        accuracy, loss = np.mean(rows, axis=0)
        print(f"{name}: accuracy {accuracy:.4f}, loss {loss:.4f}, mean of {len(rows)} seeds")


if __name__ == "__main__":
    main()
