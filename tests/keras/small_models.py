"""Writes small models to tests/golden/cases, and prints Keras's probabilities for tests/golden/cases/photo96.png:

- counted.keras: a Normalization that was adapted, whose count Keras saves as a whole number of 64 bits, as EfficientNet's.
- grey.keras: a network of a user's own for grey images that are not square.

Run from the repository root, in a venv with `pip install tensorflow-cpu pillow`:
    python tests/keras/small_models.py
"""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np

FOLDER = os.path.join(os.path.dirname(__file__), "..", "golden", "cases")
PHOTO = os.path.join(FOLDER, "photo96.png")


def photo(**how):
    return keras.utils.img_to_array(keras.utils.load_img(PHOTO, **how))[None]


def write(name, model, image):
    model.save(os.path.join(FOLDER, name))
    print(name, np.asarray(model(image, training=False))[0])


def main():
    keras.utils.set_random_seed(3)
    normalization = keras.layers.Normalization()
    normalization.adapt(photo())
    write("counted.keras", keras.Sequential([
        keras.Input((96, 96, 3)),
        normalization,
        keras.layers.Conv2D(4, 3, strides=4, activation="swish"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax"),
    ]), photo())

    write("grey.keras", keras.Sequential([
        keras.Input((24, 40, 1)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(6, (3, 5), activation="tanh"),
        keras.layers.MaxPooling2D((2, 3)),
        keras.layers.SpatialDropout2D(0.2),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax"),
    ]), photo(color_mode="grayscale", target_size=(24, 40), interpolation="bilinear"))


if __name__ == "__main__":
    main()
