"""Writes tests/golden/fit.json: how accurate Keras's own program becomes on the demo photos, to compare with.

Run from the repository root, in a venv with `pip install tensorflow-cpu pillow safetensors`:
    python tests/keras/fit.py

MobileNetV2 has the bundled weights, InceptionV3 the formula's, which tell the classes apart hardly better than chance: of
it the loss is what can be compared. Every third photo of a class is one to validate on.
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, os.path.dirname(__file__))
from networks import fill

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
SIZE = 96


def photos():
    folder = os.path.join(ROOT, "demo", "photos")
    found = {True: ([], []), False: ([], [])}
    for label, name in enumerate(sorted(os.listdir(folder))):
        for number, file in enumerate(sorted(os.listdir(os.path.join(folder, name)))):
            image = keras.utils.load_img(os.path.join(folder, name, file), target_size=(SIZE, SIZE), interpolation="bilinear")
            images, labels = found[number % 3 == 0]
            images.append(np.asarray(image, np.float32) / np.float32(127.5) - np.float32(1.0))
            labels.append(label)
    return {valid: (np.stack(images), np.array(labels)) for valid, (images, labels) in found.items()}


def main():
    data = photos()
    result = {}
    for name in ("mobilenet-v2", "inception-v3"):
        if name == "mobilenet-v2":
            base = keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), include_top=False, weights=None)
            values = load_file(os.path.join(ROOT, "crates/rekindle-weights/bundled/mobilenet_v2_1.0_160_dogs_f16.safetensors"))
            for layer in base.layers:
                names = ["kernel" if v.name == "depthwise_kernel" else v.name for v in layer.weights]
                layer.set_weights([values[f"{layer.name}/{v}"].astype(np.float32) for v in names])
        else:
            base = keras.applications.InceptionV3(input_shape=(SIZE, SIZE, 3), include_top=False, weights=None)
            fill(base, 1.0)
        features = {valid: (base.predict(x, verbose=0), y) for valid, (x, y) in data.items()}
        accuracies, losses = [], []
        for seed in range(3):
            keras.utils.set_random_seed(seed)
            L = keras.layers
            head = keras.Sequential([L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(5, activation="softmax")])
            head.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
            history = head.fit(*features[False], epochs=20, batch_size=16, verbose=0, validation_data=features[True])
            accuracies.append(history.history["val_accuracy"][-1])
            losses.append(history.history["loss"][-1])
        result[name] = {"accuracies": accuracies, "losses": losses}
        print(name, accuracies, np.mean(accuracies), losses)
    with open(os.path.join(ROOT, "tests", "golden", "fit.json"), "w") as file:
        json.dump({"size": SIZE, "epochs": 20, "batch": 16, "runs": result}, file, indent=1)


if __name__ == "__main__":
    main()
