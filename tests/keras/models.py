"""The models of checkpoints.py and old_checkpoints.py, for any Keras from 2.0 on, and their weights.

Weights repeat a short table of the variable's own, so that files of 90 MB are small once gzip has had them.
"""

import gzip
import os
import shutil
import tempfile

import numpy as np

import formula

# The shortest tables of a prime length with which InceptionV3 tells the pictures apart.
PERIOD = 127


def tiled(name, shape, centre, width):
    table = formula.uniform(name, PERIOD) * 2.0 - 1.0
    count = int(np.prod(shape))
    return (centre + width * np.resize(table, count)).astype(np.float32).reshape(shape)


def fill(model):
    """Fills every variable by its layer's position, since names differ between sessions."""
    position = 0
    for layer in model.layers:
        if getattr(layer, "layers", None):
            fill(layer)
            continue
        if not layer.weights:
            continue
        position += 1
        values = []
        for variable in layer.weights:
            shape = tuple(int(size) for size in variable.shape)
            kind = variable.name.split("/")[-1].split(":")[0]
            name = f"{layer.__class__.__name__}/{position}/{kind}"
            if kind.endswith("kernel"):
                fan_in = np.prod(shape[:2]) if "Depthwise" in layer.__class__.__name__ else np.prod(shape[:-1])
                # A weak classifier, so that probabilities are not all 0 or 1.
                gain = 0.2 if shape[-1] <= 5 and "Depthwise" not in layer.__class__.__name__ else 1.0
                values.append(tiled(name, shape, 0.0, gain * np.sqrt(6.0 / float(fan_in))))
            elif kind in ("gamma", "moving_variance"):
                # One value for a layer: folded into kernels it leaves them periodic.
                values.append(np.full(shape, 0.75 + 0.5 * formula.uniform(name, 1)[0], np.float32))
            else:
                values.append(tiled(name, shape, 0.0, 0.1))
        layer.set_weights(values)


def mobile(K, size=32, **settings):
    return K.applications.MobileNetV2(input_shape=(size, size, 3), alpha=0.35, weights=None, **settings)


def inception(K, size=75, **settings):
    return K.applications.InceptionV3(input_shape=(size, size, 3), weights=None, **settings)


def sequential(K, base):
    L = K.layers
    return K.models.Sequential([base, L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(3, activation="softmax")])


def tutorial(K, base, augmented=True):
    """The model of TensorFlow's guide to transfer learning: augmentation, preprocessing, one logit."""
    L = K.layers
    x = inputs = K.Input(shape=base.input_shape[1:])
    if augmented:
        x = K.models.Sequential([L.RandomFlip("horizontal"), L.RandomRotation(0.2)])(x)
    x = K.applications.mobilenet_v2.preprocess_input(x)
    x = base(x, training=False)
    x = L.Dropout(0.2)(L.GlobalAveragePooling2D()(x))
    return K.models.Model(inputs, L.Dense(1)(x))


def inlined(K, base, old=False):
    """The network's layers are the model's own, and the head has one of everything."""
    L = K.layers
    x = L.MaxPooling2D(1)(L.AveragePooling2D(1, padding="same")(base.output))
    x = L.ReLU()(L.BatchNormalization()(L.Dense(16)(L.Flatten()(x))))
    # Rescaling with an offset came with TensorFlow 2.3.
    x = L.Dense(8, activation="relu")(x if old else rescaling(K)(0.5, 0.1)(x))
    return K.models.Model(base.input, L.Softmax()(L.Dense(4)(L.Dropout(0.5)(x))))


def images(size):
    return np.stack([formula.image(f"image/{size}/{i}", size) for i in range(2)])


def rescaling(K):
    """The layer, wherever this version has it."""
    return getattr(K.layers, "Rescaling", None) or K.layers.experimental.preprocessing.Rescaling


def probabilities(outputs):
    """The answers as a model of ours gives them: one for each class, that sum up to 1."""
    outputs = outputs.reshape(2, -1)
    if outputs.shape[1] == 1:
        outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
    if np.any(outputs < 0) or np.any(outputs.sum(axis=1) > 1.001):
        e = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True))
        outputs = (e / e.sum(axis=1, keepdims=True)).astype(np.float32)
    return outputs


def pack(folder_out, name, write):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        write(path)
        with open(path, "rb") as file, open(os.path.join(folder_out, name + ".gz"), "wb") as target:
            with gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0, compresslevel=9) as packed:
                shutil.copyfileobj(file, packed)
