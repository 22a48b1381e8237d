"""Writes tests/golden/setting_changes.safetensors.gz: classifiers, and each with one setting of one layer changed.

Run from the repository root, in the venv of tests/keras/layer_cases.py:
    python tests/keras/setting_changes.py

The files' format is cases.py's. A case is named MODEL or MODEL: LAYER.SETTING=VALUE. Weights stay as they are where
their shapes do. Every change in the file changes the answer, by far more than rounding does; those that Keras refuses,
since the layers after no longer fit, are not in it. `-v` tells which.
"""

import copy
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import keras
import numpy as np
import tf_keras

sys.path.insert(0, os.path.dirname(__file__))
from cases import Cases, fill, fresh, name_of, spread

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "setting_changes.safetensors.gz")

CONVOLUTION = {
    "kernel_size": [[1, 1], [2, 3], [5, 5]], "strides": [[1, 1], [2, 2], [3, 3]], "padding": ["valid", "same"],
    "dilation_rate": [[2, 2], [1, 2]],
    "activation": ["linear", "relu", "elu", "silu", "tanh", "sigmoid", "softmax"], "use_bias": [True, False]}
POOLING = {"pool_size": [[1, 1], [3, 3], [2, 3]], "strides": [[1, 1], [2, 2], [3, 2]], "padding": ["valid", "same"],
           "data_format": ["channels_first"]}
# Other values of each setting that can change an answer.
CHANGES = {
    "Conv2D": {"filters": [6], "groups": [2, 4], **CONVOLUTION},
    "DepthwiseConv2D": {"depth_multiplier": [2], **CONVOLUTION},
    "SeparableConv2D": {"filters": [6], "depth_multiplier": [2], **CONVOLUTION},
    "Dense": {"units": [2, 6], "activation": ["linear", "relu", "gelu", "silu", "hard_sigmoid", "sigmoid", "softmax"],
              "use_bias": [True, False]},
    "BatchNormalization": {"axis": [1, 2], "epsilon": [1e-1], "center": [False, True], "scale": [False, True]},
    "LayerNormalization": {"axis": [1, [1, 2, 3]], "epsilon": [1e-1], "center": [False, True], "scale": [False, True]},
    "GroupNormalization": {"groups": [1, 4], "epsilon": [1e-1], "center": [False, True], "scale": [False, True]},
    "Normalization": {"mean": [[90.0, 110.0, 130.0]], "variance": [[2500.0, 3600.0, 6400.0]], "invert": [True]},
    "ReLU": {"max_value": [None, 6.0, 0.5], "negative_slope": [0.2], "threshold": [0.25]},
    "LeakyReLU": {"negative_slope": [0.0, 0.3]},
    "PReLU": {"shared_axes": [None, [1, 2], [3]]},
    "Activation": {"activation": ["linear", "relu", "relu6", "leaky_relu", "silu", "hard_silu", "gelu", "mish"]},
    "Softmax": {"axis": [1]},
    "Rescaling": {"scale": [0.01, [0.005, 0.01, 0.015]], "offset": [0.5, [0.0, -0.5, 0.5]]},
    "Resizing": {"height": [9], "width": [15], "interpolation": ["nearest", "bicubic", "area", "lanczos3"],
                 "crop_to_aspect_ratio": [True],
                 "pad_to_aspect_ratio": [True], "antialias": [True]},
    "ZeroPadding2D": {"padding": [[[1, 0], [1, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]]},
    "Cropping2D": {"cropping": [[[0, 0], [0, 0]], [[2, 0], [0, 3]]]},
    "MaxPooling2D": POOLING, "AveragePooling2D": POOLING,
    "GlobalAveragePooling2D": {"keepdims": [True], "data_format": ["channels_first"]},
    "GlobalMaxPooling2D": {"keepdims": [True], "data_format": ["channels_first"]},
    "Concatenate": {"axis": [1, 2, 3]}, "Flatten": {"data_format": ["channels_first"]},
    "Reshape": {"target_shape": [[-1], [2, -1]]},
}


def mobile(K):
    """Blocks of MobileNet's kind."""
    L = K.layers

    def norm(x, name):
        return L.BatchNormalization(epsilon=1e-3, momentum=0.999, name=name)(x)

    x = inputs = K.Input((20, 20, 3), name="pictures")
    x = L.Rescaling(1 / 127.5, -1, name="rescale")(x)
    x = L.ZeroPadding2D(((0, 1), (0, 1)), name="pad")(x)
    x = L.ReLU(6.0, name="stem_relu")(norm(L.Conv2D(4, 3, 2, "valid", use_bias=False, name="stem")(x), "stem_bn"))
    for name in ("one", "two"):
        y = L.ReLU(6.0, name=f"{name}_expand_relu")(norm(L.Conv2D(8, 1, use_bias=False, name=f"{name}_expand")(x),
            f"{name}_expand_bn"))
        y = norm(L.DepthwiseConv2D(3, 1, "same", use_bias=False, name=f"{name}_depthwise")(y), f"{name}_depthwise_bn")
        y = L.ReLU(6.0, name=f"{name}_depthwise_relu")(y)
        y = norm(L.Conv2D(4, 1, use_bias=False, name=f"{name}_project")(y), f"{name}_project_bn")
        x = L.Add(name=f"{name}_add")([x, y]) if name == "two" else y
    x = L.Dropout(0.2, name="drop")(L.GlobalAveragePooling2D(name="pool")(x))
    return K.Model(inputs, L.Dense(3, activation="softmax", name="predictions")(x), name="mobile")


def inception(K):
    """A block of InceptionV3's kind, and one that makes maps smaller."""
    L = K.layers

    def conv(x, filters, size, name, **settings):
        x = L.Conv2D(filters, size, use_bias=False, padding=settings.pop("padding", "same"), name=name, **settings)(x)
        return L.Activation("relu", name=f"{name}_relu")(L.BatchNormalization(scale=False, name=f"{name}_bn")(x))

    x = inputs = K.Input((17, 17, 3), name="pictures")
    x = L.MaxPooling2D(3, 2, name="max_pool")(conv(x, 4, 3, "stem", padding="valid"))
    one = conv(x, 3, 1, "one")
    five = conv(conv(x, 2, 1, "five_reduce"), 3, 5, "five")
    row = conv(conv(x, 2, (1, 3), "row"), 2, (3, 1), "column")
    pooled = conv(L.AveragePooling2D(3, 1, "same", name="average_pool")(x), 2, 1, "pooled")
    x = L.Concatenate(axis=3, name="mixed")([one, five, row, pooled])
    x = L.Concatenate(name="smaller")([conv(x, 4, 3, "reduce", strides=2, padding="valid"),
                                       L.MaxPooling2D(3, 2, name="reduce_pool")(x)])
    x = L.Dense(3, name="logits")(L.GlobalAveragePooling2D(name="pool")(x))
    return K.Model(inputs, L.Softmax(name="predictions")(x), name="inception")


def own(K):
    """What tutorials have their readers write."""
    L = K.layers
    return K.Sequential([
        K.Input((16, 16, 3), name="pictures"), L.Rescaling(1 / 255, name="rescale"),
        L.Conv2D(4, 3, activation="relu", name="first"), L.MaxPooling2D(name="first_pool"),
        L.Conv2D(4, 3, padding="same", activation="relu", name="second"), L.MaxPooling2D(name="second_pool"),
        L.Conv2D(5, 2, activation="elu", name="third"), L.Dropout(0.25, name="drop"), L.Flatten(name="flat"),
        L.Dense(8, activation="relu", name="hidden"), L.Dropout(0.5, name="drop_more"),
        L.Dense(4, activation="softmax", name="predictions"),
    ], name="own")


def labels(K):
    """Swish, squeeze and excitation, the rarer normalizations, and a probability of each label for itself."""
    L = K.layers
    x = inputs = K.Input((14, 12, 3), name="pictures")
    x = L.Resizing(12, 12, name="resize")(x)
    x = L.Normalization(mean=[120.0, 118.0, 104.0], variance=[3600.0, 3500.0, 3800.0], name="normalize")(x)
    x = L.Conv2D(4, 3, 2, "same", activation="swish", name="stem")(L.Cropping2D(((1, 0), (0, 1)), name="crop")(x))
    x = L.LeakyReLU(negative_slope=0.1, name="leaky")(L.LayerNormalization(name="layer_norm")(x))
    squeezed = L.Dense(2, activation="swish", name="squeeze")(L.GlobalAveragePooling2D(keepdims=True,
        name="squeeze_pool")(x))
    x = L.Multiply(name="scale")([x, L.Dense(4, activation="sigmoid", name="excite")(squeezed)])
    x = L.GroupNormalization(2, name="group_norm")(L.SeparableConv2D(4, 3, padding="same", name="separable")(x))
    x = L.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = L.Concatenate(name="both")([L.GlobalMaxPooling2D(name="most")(x), L.GlobalAveragePooling2D(name="mean")(x)])
    x = L.BatchNormalization(name="norm")(L.Dense(6, activation="swish", name="hidden")(x))
    return K.Model(inputs, L.Dense(4, activation="sigmoid", name="predictions")(x), name="labels")


def settled(model, pictures, strength):
    """Fills a model and has its normalizations take on the pictures' statistics, as those of a trained one have.

    A `strength` of 3 has values come to the 6 at which MobileNet's activations end.
    """
    fill(model)
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
        if layer.scale:
            layer.gamma.assign(layer.gamma * strength)
    model(pictures, training=True)
    for layer, momentum in zip(norms, momenta):
        layer.momentum = momentum
    return {name_of(variable): np.asarray(variable) for variable in model.weights}


def built_nowhere(config):
    """Without the shapes that layers had been built for."""
    if isinstance(config, dict):
        return {key: built_nowhere(value) for key, value in config.items() if key != "build_config"}
    return [built_nowhere(value) for value in config] if isinstance(config, list) else config


def variants(config):
    """The name and the configuration of every change."""
    for index, layer in enumerate(config["config"]["layers"]):
        for setting, values in CHANGES.get(layer["class_name"], {}).items():
            if setting not in layer["config"]:
                continue  # Of Keras 3 only.
            for value in values:
                if value == layer["config"][setting]:
                    continue
                changed = copy.deepcopy(config)
                changed["config"]["layers"][index]["config"][setting] = value
                yield f"{layer['config']['name']}.{setting}={json.dumps(value)}", built_nowhere(changed)


def main():
    cases = Cases()
    for name, K, build in (("mobile", keras, mobile), ("inception", keras, inception), ("own", keras, own),
                           ("labels", keras, labels), ("own of Keras 2", tf_keras, own)):
        fresh()
        plain = build(K)
        shape = (2, *plain.input_shape[1:])
        pictures = np.floor(spread(f"pictures/{shape}", shape, 0.0, 256.0))
        pictures = pictures / np.float32(64) - np.float32(2) if name == "inception" else pictures
        kept = settled(plain, pictures, 3.0 if name == "mobile" else 1.0)
        cases.add(name, plain, pictures, family=name)
        answer = np.asarray(plain(pictures, training=False))
        refused, same = [], []
        for change, config in variants(json.loads(plain.to_json())):
            fresh()
            try:
                model = K.models.model_from_json(json.dumps(config))
                fill(model, kept)
                outputs = np.asarray(model(pictures, training=False))
            except Exception as error:  # Keras raises what TensorFlow does.
                refused.append(f"{change} ({type(error).__name__})")
                continue
            if outputs.shape == answer.shape and np.abs(outputs - answer).max() < 1e-4:
                same.append(f"{change} ({np.abs(outputs - answer).max():.0e})")
                continue
            cases.add(f"{name}: {change}", model, pictures, family=name)
        print(f"{name}: {len(refused)} refused, {len(same)} the same: {', '.join(same)}")
        if "-v" in sys.argv:
            print(*refused, sep="\n")
    cases.save(OUT)


if __name__ == "__main__":
    main()
