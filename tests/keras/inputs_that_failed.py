"""Writes tests/golden/cases/: models that earlier versions read wrongly or refused, and what Keras answers.

Run from the repository root, in a venv with `pip install tensorflow-cpu h5py pillow`, with the folder of the `.keras`
files and the two photos:
    python tests/keras/inputs_that_failed.py FOLDER

The models are MobileNetV2 0.35 with weights of one pattern, so most have the same: a configuration (NAME.json.gz) names
its weights (WEIGHTS.h5.gz) in cases.json. A test puts both into a `.keras` file again.
"""

import gzip
import io
import json
import os
import shutil
import sys
import zipfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import h5py
import keras
import numpy as np
from PIL import Image

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "cases")
# The models that take photos as they are, and those of another size.
LARGE = ("resizing_crop", "resizing_pad", "resizing_antialias", "resizing_base_any_size", "input180_resizing96")


def pack(name, data):
    with open(os.path.join(OUT, name + ".gz"), "wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=9) as packed:
        packed.write(data)


def datasets(data):
    found = {}
    visit = lambda name, item: found.__setitem__(name, np.asarray(item)) if isinstance(item, h5py.Dataset) else None
    h5py.File(io.BytesIO(data)).visititems(visit)
    return found


def main(folder):
    os.makedirs(OUT, exist_ok=True)
    known, cases = [], []
    names = sorted(name[:-6] for name in os.listdir(folder) if name.endswith(".keras"))
    for name in sorted(names, key=lambda name: name != "control"):
        path = os.path.join(folder, name + ".keras")
        with zipfile.ZipFile(path) as archive:
            config, weights = archive.read("config.json"), archive.read("model.weights.h5")
        arrays = datasets(weights)
        same = (other for other, theirs in known if theirs.keys() == arrays.keys() and all(np.array_equal(theirs[k], arrays[k]) for k in arrays))
        file = next(same, None)
        if file is None:
            file = name
            known.append((name, arrays))
            pack(name + ".h5", weights)
        pack(name + ".json", config)
        photo = "photo300x200.png" if name in LARGE else "photo96.png"
        pixels = np.asarray(Image.open(os.path.join(folder, photo)).convert("RGB"), np.float32)[None]
        if name == "input180_resizing96":
            pixels = np.asarray(Image.open(os.path.join(folder, photo)).convert("RGB").resize((180, 180), Image.BILINEAR), np.float32)[None]
        config = json.loads(config)
        if not any(layer["class_name"] in ("Rescaling", "TrueDivide", "Cast") for layer in config["config"]["layers"]):
            pixels = pixels / np.float32(127.5) - np.float32(1.0)
        answer = keras.models.load_model(path, compile=False)(pixels, training=False)
        cases.append({"name": name, "weights": file, "photo": photo, "answer": np.asarray(answer)[0].astype(float).tolist()})
        print(name, file, np.round(cases[-1]["answer"], 5))
    for photo in ("photo96.png", "photo300x200.png"):
        shutil.copy(os.path.join(folder, photo), OUT)
    with open(os.path.join(OUT, "cases.json"), "w") as file:
        json.dump(cases, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
