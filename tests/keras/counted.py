"""Writes tests/golden/cases/counted.keras: a Normalization that was adapted, whose count Keras saves as a whole number
of 64 bits, as EfficientNet's is; and prints its probabilities for tests/golden/cases/photo96.png.

Run from the repository root, in a venv with `pip install tensorflow-cpu pillow`:
    python tests/keras/counted.py
"""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
from PIL import Image

FOLDER = os.path.join(os.path.dirname(__file__), "..", "golden", "cases")


def main():
    keras.utils.set_random_seed(3)
    photo = np.asarray(Image.open(os.path.join(FOLDER, "photo96.png")).convert("RGB"), dtype=np.float32)[None]
    normalization = keras.layers.Normalization()
    normalization.adapt(photo)
    model = keras.Sequential([
        keras.Input((96, 96, 3)),
        normalization,
        keras.layers.Conv2D(4, 3, strides=4, activation="swish"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax"),
    ])
    model.save(os.path.join(FOLDER, "counted.keras"))
    print(np.asarray(model(photo, training=False))[0])


if __name__ == "__main__":
    main()
