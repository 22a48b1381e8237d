"""Compares `rekindle predict` with Keras on whole models of every Keras application, with random weights.

Each application is saved twice as `.keras`: with its own top of seven classes, and as people fine-tune it, the base as a layer between
its preprocessing and a head. Both at the least size that is no multiple of 32 and above the application's minimum. Inception V1, V2 and
V4 are not in Keras.

Run from the repository root, in a venv with `pip install tensorflow-cpu pillow`:
    cargo build --release --bin rekindle
    python tests/keras/whole_models.py [--rekindle target/release/rekindle] [--plain] [NAME ...]

Weights are changed so that pictures are told apart, but with --plain, where they are as Keras draws them.

Prints for each file how far the farthest probability is from Keras's, and how far Keras's are from what it computes in float64. It
exits with 1 where ours are more than 1e-5 from Keras's and also farther from the float64 ones than twice as far as Keras's.
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


def pictures(count, size, seed):
    """Patches of color: noise would look alike to the last layers."""
    numbers = np.random.default_rng(seed)
    patches = numbers.integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    return [Image.fromarray(patch).resize((size, size), Image.BICUBIC) for patch in patches]


def as_array(photos):
    return np.stack([np.asarray(photo) for photo in photos]).astype(np.float32)


def stir(model, preprocess, size):
    """Weights that tell pictures apart: normalizations get the statistics of some pictures, convolutions without one keep the scale."""
    layers = list(model._flatten_layers(include_self=False, recursive=True))
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        if not norms and isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(2**0.5 * layer.kernel)
    momentum = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(preprocess(as_array(pictures(16, size, 7))), training=True)
    for layer, momentum in zip(norms, momentum):
        layer.momentum = momentum
        # A channel that is the same in these pictures would be made thirty times as large in others, and its rounding with it.
        variance = layer.moving_variance.numpy()
        layer.moving_variance.assign(np.maximum(variance, variance.mean() / 4))


def as_drawn(model, preprocess, size):
    """Weights as Keras draws them."""


def own_top(build, module, size, settings, stir):
    model = build(input_shape=(size, size, 3), weights=None, classes=7, **settings)
    stir(model, module.preprocess_input, size)
    return model, module.preprocess_input


def fine_tuned(build, module, size, settings, stir):
    """What the course's programs make: preprocessing in front, a frozen base, a head with two dense layers."""
    base = build(input_shape=(size, size, 3), include_top=False, weights=None, **settings)
    inputs = x = keras.Input((size, size, 3))
    white = np.full((1, 1, 1, 3), 255, np.float32)
    if np.array_equal(module.preprocess_input(white.copy()), white):
        # It scales pixels itself: of ones from -1 to 1 nothing would be left but rounding.
        stir(base, lambda images: images, size)
    else:
        stir(base, lambda images: images / 127.5 - 1, size)
        x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(16, activation="relu")(x))
    outputs = keras.layers.Dense(4, activation="softmax")(keras.layers.Dropout(0.3)(x))
    return keras.Model(inputs, outputs), lambda images: images


def in_float64(model, images):
    def exact(config):
        match config:
            case dict():
                return {key: exact(value) for key, value in config.items()}
            case list() | tuple():
                return type(config)(exact(value) for value in config)
            case "float32":
                return "float64"
        return config

    keras.config.set_floatx("float64")
    twin = keras.Model.from_config(exact(model.get_config()))
    twin.set_weights([weights.astype(np.float64) for weights in model.get_weights()])
    keras.config.set_floatx("float32")
    return twin(images.astype(np.float64)).numpy()


def compare(rekindle, name, form, stir, folder):
    """Ours from Keras's, ours from the exact ones, Keras's from the exact ones; or why there are none."""
    build, module, settings = NETWORKS[name]
    size = LEAST.get(name, 45)
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model, preprocess = form(build, module, size, settings[-1], stir)
    path = os.path.join(folder, "model.keras")
    model.save(path)
    photos = pictures(2, size, 0)
    files = [os.path.join(folder, f"{number}.png") for number in range(2)]
    for photo, file in zip(photos, files):
        photo.save(file)
    images = preprocess(as_array(photos))
    expected = model.predict(images, verbose=0)
    exact = in_float64(model, images)
    command = [rekindle, "predict", path, *files, "--json", "--top", str(expected.shape[1])]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        return run.stderr.strip()
    ours = []
    for photo in json.loads(run.stdout):
        by_class = {int(row["index"]): row["probability"] for row in photo["predictions"]}
        ours.append([by_class[index] for index in range(expected.shape[1])])
    ours = np.array(ours)
    pairs = [(ours, expected), (ours, exact), (expected, exact), (expected[0], expected[1])]
    return [float(np.abs(a - b).max()) for a, b in pairs]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rekindle", default="target/release/rekindle")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    far = []
    for name in args.names or NETWORKS:
        for form in (own_top, fine_tuned):
            with tempfile.TemporaryDirectory() as folder:
                result = compare(args.rekindle, name, form, as_drawn if args.plain else stir, folder)
            if isinstance(result, str):
                print(f"{name} {form.__name__}: {result}", flush=True)
                far.append(f"{name} {form.__name__}")
                continue
            apart, ours, keras_s, photos = result
            print(f"{name} {form.__name__}: {apart:.1e}; from float64 ours {ours:.1e}, Keras's {keras_s:.1e}; "
                  f"the two photos {photos:.1e}", flush=True)
            if apart > TOLERANCE and ours > 2 * keras_s:
                far.append(f"{name} {form.__name__}")
    print(f"wrong: {', '.join(far) or 'none'}")
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
