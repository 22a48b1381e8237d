"""Compares `rekindle predict` with Keras on whole models of every Keras application, with random weights.

Each application is saved twice as `.keras`: with its own top of seven classes, and as people fine-tune it, the base as a layer between
its preprocessing and a head. Both at the least size that is no multiple of 32 and above the application's minimum. Inception V1, V2 and
V4 are not in Keras.

Run from the repository root, in a venv with `pip install tensorflow-cpu pillow`:
    cargo build --release --bin rekindle
    python tests/keras/whole_models.py [--rekindle target/release/rekindle] [NAME ...]

Prints for each file how far the farthest probability is from Keras's, and what Keras in float64 says of its own rounding. It exits with
1 where one is more than 1e-5 away.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
from PIL import Image

sys.path.insert(0, os.path.dirname(__file__))
from applications import NETWORKS

TOLERANCE = 1e-5
LEAST = {"inception-v3": 77, "inception-resnet-v2": 77, "xception": 73}


def own_top(name, build, module, size, settings):
    model = build(input_shape=(size, size, 3), weights=None, classes=7, **settings)
    return model, module.preprocess_input


def fine_tuned(name, build, module, size, settings):
    """What the course's programs make: preprocessing in front, a frozen base, a head with two dense layers."""
    base = build(input_shape=(size, size, 3), include_top=False, weights=None, **settings)
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(16, activation="relu")(x))
    outputs = keras.layers.Dense(4, activation="softmax")(keras.layers.Dropout(0.3)(x))
    return keras.Model(inputs, outputs), lambda images: images


def compare(rekindle, name, form, folder):
    build, module, settings = NETWORKS[name]
    size = LEAST.get(name, 45)
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model, preprocess = form(name, build, module, size, settings[-1])
    path = os.path.join(folder, "model.keras")
    model.save(path)
    photos = []
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3)).astype(np.uint8)
        photos.append(os.path.join(folder, f"{number}.png"))
        Image.fromarray(pixels).save(photos[-1])
    images = np.stack([np.asarray(Image.open(photo)) for photo in photos]).astype(np.float32)
    expected = model.predict(preprocess(images.copy()), verbose=0)
    command = [rekindle, "predict", path, *photos, "--json", "--top", str(expected.shape[1])]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        return None, run.stderr.strip()
    ours = []
    for photo in json.loads(run.stdout):
        by_class = {int(row["index"]): row["probability"] for row in photo["predictions"]}
        ours.append([by_class[index] for index in range(expected.shape[1])])
    return float(np.abs(np.array(ours) - expected).max()), run.stderr.strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rekindle", default="target/release/rekindle")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    far = []
    for name in args.names or NETWORKS:
        for form in (own_top, fine_tuned):
            with tempfile.TemporaryDirectory() as folder:
                apart, said = compare(args.rekindle, name, form, folder)
            print(f"{name} {form.__name__}: {'refused: ' + said if apart is None else f'{apart:.1e}'}", flush=True)
            if apart is None or apart > TOLERANCE:
                far.append(f"{name} {form.__name__}")
    print(f"more than {TOLERANCE} apart: {', '.join(far) or 'none'}")
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
