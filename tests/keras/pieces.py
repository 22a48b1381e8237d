"""Writes tests/golden/pieces/: the weights of checkpoints.py's mobilenet_v2_keras3.weights.h5 in other kinds of files.

Run from the repository root, in a venv with `pip install tensorflow-cpu`:
    python tests/keras/pieces.py
"""

import gzip
import os
import shutil
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import keras
import numpy as np

sys.path.insert(0, os.path.dirname(__file__))
from models import fill, mobile

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "pieces")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    model = mobile(keras, classes=5)
    fill(model)
    with tempfile.TemporaryDirectory() as folder:
        # In gigabytes: some files.
        model.save_weights(os.path.join(folder, "sharded.weights.json"), max_shard_size=0.0006)
        for name in os.listdir(folder):
            target = os.path.join(OUT, name)
            if name.endswith(".json"):
                shutil.copy(os.path.join(folder, name), target)
                continue
            with open(os.path.join(folder, name), "rb") as file, open(target + ".gz", "wb") as packed:
                with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0, compresslevel=9) as packed:
                    shutil.copyfileobj(file, packed)
    np.savez_compressed(os.path.join(OUT, "named.npz"), **{weight.path: weight.numpy() for weight in model.weights})
    np.savez_compressed(os.path.join(OUT, "order.npz"), *model.get_weights())


main()
