"""Writes tests/golden/networks/NAME.safetensors: what Keras's own networks compute, to compare with.

For every network of `keras.applications`, with every width and `minimalistic`: outputs of layers spread over it, and the
gradients of the output, at the least size and at an odd one.

Run from the repository root, in a venv with `pip install tensorflow-cpu safetensors`:
    python tests/keras/networks.py [NAME ...]
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # plain float32 kernels
import keras
import numpy as np
import tensorflow as tf
from keras.src.applications import imagenet_utils
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(__file__))
import formula
from applications import NETWORKS, built, key

GOLDEN = os.path.join(os.path.dirname(__file__), "..", "golden", "networks")
SAMPLES = 200
GRADIENTS = 10
# Gradients of larger networks in float64 take more memory than they are worth.
MOST_GRADIENTS = 150_000_000
LAYERS = 12
PRIME = 15485863

# The least size that Keras allows with a top, and an odd one.
LEAST = {"inception-v3": 75, "inception-resnet-v2": 75, "xception": 71}
ODD = 97
# These are compared at the sizes that they are mostly used at, too.
MORE = {"mobilenet": (224,), "mobilenet-v2": (96, 160, 224), "inception-v3": (160, 299)}
# At the least size a value within float32's rounding of a ReLU's kink falls on either side of it, and changes gradients by
# a thousandth or more: theirs are taken at a size where none does.
KINKS = {
    "mobilenet-v2-1.0": 33, "mobilenet-v3-large-0.75": 33, "mobilenet-v3-large-1.0": 33, "inception-v3": 77,
    "inception-resnet-v2": 77, "densenet-121": 33, "densenet-169": 33, "densenet-201": 33,
}
# What the layers that end a branch give, where half is too much: with 79 blocks even float32 in Keras is a fifth off.
WEAK_GAINS = {"efficientnet-v2-l": 0.25}
# Their outputs are not compared: they have the values of their inputs, or none of their own.
PLAIN = ("InputLayer", "ZeroPadding2D", "Cropping2D", "Dropout", "Rescaling", "Normalization", "Flatten", "Reshape",
         "Sequential", "StochasticDepth")

# Keras with ImageNet's weights refuses other sizes than the default; the layers are what is wanted, not the weights.
obtain_input_shape = imagenet_utils.obtain_input_shape
imagenet_utils.obtain_input_shape = lambda *args, **kwargs: obtain_input_shape(*args, **{**kwargs, "weights": None})


def sample(values: np.ndarray, count: int = 500) -> np.ndarray:
    """At most `count` values, spread over the flattened array, and behind them max |value|."""
    flat = values.reshape(-1)
    if flat.size > count:
        picked = flat[(np.arange(count, dtype=np.uint64) * PRIME) % np.uint64(flat.size)]
    else:
        picked = flat
    return np.concatenate([picked, [np.abs(flat).max()]]).astype(np.float32)


def flattened(model):
    """The layers, those of models in the model too."""
    for layer in model.layers:
        if isinstance(layer, keras.Sequential):
            yield from flattened(layer)
        else:
            yield layer


def weak(model) -> list:
    """The layers that end a branch of a sum: at full strength each sum would double what goes on."""
    names = set()
    for layer in model.layers:
        if layer.__class__.__name__ in ("Add", "CustomScaleLayer"):
            for value in layer.input:
                before = value._keras_history.operation
                while not before.weights and not isinstance(before.input, list) and before is not model.layers[0]:
                    before = before.input._keras_history.operation
                if before.weights:
                    names.add(before.name)
    return sorted(names)


def variables(model):
    """Layers, their variables, and what those are called here."""
    for layer in flattened(model):
        for variable in layer.weights:
            name = variable.name
            if isinstance(layer, keras.layers.DepthwiseConv2D) and name == "depthwise_kernel":
                name = "kernel"
            # Keras 3 has no name for that of its LayerScale.
            yield layer, variable, "gamma" if name.startswith("variable") else name


def fill(model, gain, weak=(), classifiers=formula.CLASSIFIERS, weak_gain=0.5):
    for layer, variable, name in variables(model):
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        variable.assign(formula.variable(
            layer.name, name, tuple(variable.shape), gain, depthwise, weak, classifiers, weak_gain))
    for layer in flattened(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def taps(model) -> list:
    """Layers spread over the network, the last one at the end."""
    names = [layer.name for layer in model.layers if layer.__class__.__name__ not in PLAIN]
    places = np.unique(np.linspace(0, len(names) - 1, LAYERS).round().astype(int))
    return [names[place] for place in places]


def inputs(name, size):
    """Two pictures: what float32 preprocessing makes of their bytes."""
    images = np.stack([formula.image(f"image/{size}/{i}", size) for i in range(2)])
    return NETWORKS[name][1].preprocess_input(images.astype(np.float32)).astype(np.float64)


def logits(model, images):
    """What the softmax at the end takes, `[2, classes]`."""
    last = model.layers[-1]
    if isinstance(last, keras.layers.Activation):
        inner = keras.Model(model.input, model.layers[-2].output)
        outputs = inner(images, training=False)
    else:
        softmax, last.activation = last.activation, keras.activations.linear
        outputs = model(images, training=False)
        last.activation = softmax
    return tf.reshape(outputs, (len(images), -1))


def gradients(model, images):
    """Of the logits times a fixed matrix, by each variable that trains."""
    count = 2 * model.output_shape[-1]
    weights = (formula.uniform("slope", count) - 0.5).astype(np.float32).astype(np.float64).reshape(2, -1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(logits(model, images) * weights)
    trainable = {id(variable) for variable in model.trainable_variables}
    wanted = [(f"{layer.name}/{name}", variable) for layer, variable, name in variables(model) if id(variable) in trainable]
    return zip([path for path, _ in wanted], tape.gradient(loss, [variable for _, variable in wanted]))


def run(name):
    # In float64, so that a difference is Rekindle's own rounding and not that of two libraries together.
    keras.backend.set_floatx("float64")
    tensors, described = {}, []
    least = LEAST.get(name, 32)
    for settings in NETWORKS[name][2]:
        # Large networks differ from small ones in numbers only.
        more = MORE.get(name, ()) if settings.get("alpha", 1.0) == 1.0 else ()
        smooth = KINKS.get(key(name, settings), least)
        tops = dict.fromkeys((least, smooth, *more))
        for size, top in [*((size, True) for size in tops), (ODD, False)]:
            model, _ = built(name, settings, top, size)
            if model.count_params() > MOST_GRADIENTS and not top:
                continue
            [classifier] = [layer.name for layer in model.layers if layer.weights][-1:]
            case = {
                **settings, "size": size, "classes": model.output_shape[-1] if top else None,
                "key": f"{key('', settings)}-{size}".strip("-"), "layers": taps(model), "weak": weak(model),
                "classifier": classifier, "gain": 1.0, "weak_gain": WEAK_GAINS.get(name, 0.5),
            }
            images = inputs(name, size)
            fill(model, 1.0, case["weak"], weak_gain=case["weak_gain"])
            if top:
                # Probabilities that are neither equal nor one-hot.
                spread = np.asarray(logits(model, images)).std(axis=-1).mean()
                case["gain"] = float(f"{1.5 / spread:.2g}")
                fill(model, case["gain"], case["weak"], (classifier,), case["weak_gain"])
            tapped = keras.Model(model.input, [model.get_layer(layer).output for layer in case["layers"]])
            outputs = tapped(images, training=False)
            for layer, output in zip(case["layers"], outputs):
                tensors[f"{case['key']}/{layer}"] = sample(np.asarray(output), SAMPLES)
            last = np.asarray(outputs[-1])
            case["gradients"] = top and size == smooth and model.count_params() < MOST_GRADIENTS
            if case["gradients"]:
                for path, gradient in gradients(model, images):
                    tensors[f"{case['key']}/gradient/{path}"] = sample(np.asarray(gradient), GRADIENTS)
            described.append(case)
            print(name, case["key"], case["gain"], [float(f"{np.abs(np.asarray(o)).max():.2g}") for o in outputs],
                  last.max(), flush=True)
            del model, tapped
    save_file(tensors, os.path.join(GOLDEN, f"{name}.safetensors"), metadata={"cases": json.dumps(described)})


def main():
    os.makedirs(GOLDEN, exist_ok=True)
    for name in sys.argv[1:] or NETWORKS:
        run(name)


if __name__ == "__main__":
    main()
