"""Writes tests/golden/{mobilenet,mobilenet_v2,inception_v3}.safetensors: Keras's own outputs, to compare with.

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
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(__file__))
import formula

SAMPLES = 500
PRIME = 15485863

MOBILENET_V1_LAYERS = [
    "conv1_bn", "conv1_relu", "conv_dw_1_bn", "conv_pad_2", "conv_pw_3_relu", "conv_dw_6_relu", "conv_pw_11_bn",
    "conv_pad_12", "conv_pw_13_relu", "global_average_pooling2d", "conv_preds", "predictions",
]
MOBILENET_LAYERS = [
    "bn_Conv1", "Conv1_relu", "expanded_conv_project_BN", "block_1_pad", "block_2_add",
    "block_3_depthwise", "block_6_depthwise_relu", "block_12_add", "block_13_expand",
    "block_13_depthwise_BN", "block_16_project_BN", "out_relu", "predictions",
]
INCEPTION_LAYERS = [
    "conv2d", "activation_2", "max_pooling2d_1", "average_pooling2d", "mixed0", "mixed2", "mixed3",
    "activation_40", "mixed7", "mixed8", "mixed9_0", "mixed10", "avg_pool", "predictions",
]


def sample(values: np.ndarray) -> np.ndarray:
    """At most SAMPLES values, spread over the flattened array, and behind them max |value|."""
    flat = values.reshape(-1)
    if flat.size > SAMPLES:
        picked = flat[(np.arange(SAMPLES, dtype=np.uint64) * PRIME) % np.uint64(flat.size)]
    else:
        picked = flat
    return np.concatenate([picked, [np.abs(flat).max()]]).astype(np.float32)


def fill(model: keras.Model, classifier_gain: float) -> None:
    for layer in model.layers:
        for var in layer.weights:
            name = "kernel" if var.name == "depthwise_kernel" else var.name
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            var.assign(formula.variable(layer.name, name, tuple(var.shape), classifier_gain, depthwise))


def run(build, layers, cases, classifier_gain, path):
    # In float64, so that a difference is Rekindle's own rounding and not that of two libraries together:
    # float32 Keras is up to 8e-5 away from it at `out_relu` with these weights.
    keras.backend.set_floatx("float64")
    tensors, described = {}, []
    for case in cases:
        keras.backend.clear_session()
        model = build(case)
        fill(model, classifier_gain)
        size = case["size"]
        images = np.stack([formula.image(f"image/{size}/{i}", size) for i in range(2)])
        known = {layer.name for layer in model.layers}
        wanted = [name for name in layers if name in known]
        tapped = keras.Model(model.input, [model.get_layer(name).output for name in wanted])
        # The input is what float32 preprocessing makes of the bytes.
        inputs = images / np.float32(127.5) - np.float32(1.0)
        outputs = tapped(inputs.astype(np.float64), training=False)
        key = "-".join(str(value) for value in case.values())
        for name, output in zip(wanted, outputs):
            tensors[f"{key}/{name}"] = sample(np.asarray(output))
        trainable = int(sum(np.prod(v.shape) for v in model.trainable_weights))
        described.append({
            **case, "classes": model.output_shape[-1] if case["top"] else None, "key": key, "layers": wanted,
            "parameters": model.count_params(), "trainable": trainable,
        })
        print(key, float(np.asarray(outputs[-1]).max()), float(np.asarray(outputs[-1]).std()))
    save_file(tensors, path, metadata={"cases": json.dumps(described), "keras": keras.__version__})


def mobilenet():
    cases = [
        {"alpha": alpha, "size": size, "top": top}
        for alpha in (0.25, 0.5, 0.75, 1.0)
        for size in (32, 97)
        for top in (True, False)
        if alpha in (0.25, 1.0) or size == 32
    ]
    cases.append({"alpha": 1.0, "size": 224, "top": True})
    return MOBILENET_V1_LAYERS, cases, 2.0, lambda c: keras.applications.MobileNet(
        input_shape=(c["size"], c["size"], 3), alpha=c["alpha"], include_top=c["top"], weights=None)


def mobilenet_v2():
    # Every alpha at one size, and the three that matter most at every size, an odd one among them.
    cases = [
        {"alpha": alpha, "size": size, "top": top}
        for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
        for size in (96, 97, 160, 224)
        for top in (True, False)
        if alpha in (0.35, 1.0, 1.4) or size == 96
    ]
    cases.append({"alpha": 1.0, "size": 32, "top": False})
    return MOBILENET_LAYERS, cases, 2.0, lambda c: keras.applications.MobileNetV2(
        input_shape=(c["size"], c["size"], 3), alpha=c["alpha"], include_top=c["top"],
        weights=None, classes=1000 if c["size"] != 97 else 7)


def inception_v3():
    cases = [{"size": size, "top": top} for size in (75, 160, 299) for top in (True, False)]
    return INCEPTION_LAYERS, cases, 10.0, lambda c: keras.applications.InceptionV3(
        input_shape=(c["size"], c["size"], 3), include_top=c["top"], weights=None)


NETWORKS = {"mobilenet": mobilenet, "mobilenet_v2": mobilenet_v2, "inception_v3": inception_v3}


def main():
    root = os.path.join(os.path.dirname(__file__), "..", "golden")
    for name in sys.argv[1:] or NETWORKS:
        layers, cases, gain, build = NETWORKS[name]()
        run(build, layers, cases, gain, os.path.join(root, f"{name}.safetensors"))


if __name__ == "__main__":
    main()
