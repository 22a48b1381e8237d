"""Writes tests/golden/tflite/: what TensorFlow's converter makes of small Keras models, and answers.json with what Keras answers.

Run from the repository root, in a venv with `pip install tensorflow-cpu tflite-support`:
    python tests/keras/tflite_models.py

With a folder as argument, and names if not all are wanted, it writes there what the converter makes of Keras's applications, for the test in
crates/rekindle-weights/tests/elsewhere/tflite.rs (REKINDLE_READ_TFLITE).
"""

import json
import os
import subprocess
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import keras
import numpy as np
import tensorflow as tf

import formula

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "tflite")
HEIGHT, WIDTH = 12, 10
L = keras.layers
ACTIVATIONS = "relu relu6 leaky_relu elu selu gelu silu hard_silu hard_sigmoid sigmoid tanh softplus softsign exponential mish log_softmax".split()


def image(shape):
    """Bytes, as the test computes them too."""
    count = int(np.prod(shape))
    return (np.arange(count) * 37 % 256).reshape(1, *shape).astype(np.float32)


def fill(model):
    for layer in model._flatten_layers():
        for variable in getattr(layer, "_trainable_variables", []) + getattr(layer, "_non_trainable_variables", []):
            depthwise = isinstance(layer, L.DepthwiseConv2D)
            if variable.name == "alpha":
                variable.assign(formula.uniform(layer.name, int(np.prod(variable.shape))).reshape(variable.shape))
                continue
            gain = 4.0 if layer.name == "classes" else 1.0
            variable.assign(formula.variable(layer.name, variable.name, tuple(variable.shape), gain, depthwise=depthwise))


def model(name, body, pool=True):
    images = keras.Input((HEIGHT, WIDTH, 3))
    x = body(L.Rescaling(1 / 127.5, -1.0)(images))
    if pool:
        x = L.GlobalAveragePooling2D()(x)
    made = keras.Model(images, L.Dense(3, activation="softmax", name="classes")(x), name=name)
    fill(made)
    return made


def mobile(x):
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="first")(x)
    x = shortcut = L.ReLU(6.0)(L.BatchNormalization(name="first_norm")(x))
    x = L.DepthwiseConv2D(3, padding="same", use_bias=False, name="each")(x)
    x = L.ReLU(6.0)(L.BatchNormalization(name="each_norm")(x))
    x = L.Conv2D(8, 1, use_bias=False, name="project")(x)
    x = L.Add()([L.BatchNormalization(name="project_norm")(x), shortcut])
    x = L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="two")(x)
    return L.SeparableConv2D(6, 3, padding="same", activation="tanh", name="separable")(x)


def norms(x):
    x = L.Conv2D(6, 3, groups=3, name="grouped")(x)
    x = L.LayerNormalization(epsilon=1e-6, name="layers")(x)
    x = L.GroupNormalization(2, name="groups")(x)
    x = L.BatchNormalization(name="norm")(x)
    return L.LayerNormalization(name="plain", center=False, scale=False)(x)


def shapes(x):
    x = L.ZeroPadding2D(((0, 1), (2, 1)))(x)
    x = L.Conv2D(4, 3, strides=2, name="conv")(x)
    x = L.Permute((2, 1, 3))(L.Reshape((6, 6, 4))(L.Resizing(6, 6)(x)))
    x = L.Cropping2D(((1, 0), (0, 1)))(L.Resizing(9, 7, interpolation="nearest")(x))
    x = L.Concatenate()([L.MaxPooling2D(3, 2, padding="same")(x), L.AveragePooling2D(3, 2, padding="same")(x)])
    x = L.PReLU(shared_axes=[1, 2], name="prelu")(L.MaxPooling2D(2, 1)(x))
    x = L.Flatten()(x)
    return L.LayerNormalization(name="flat")(L.Dense(5, activation="relu", name="hidden")(x))


def squeeze(x):
    x = shortcut = L.Conv2D(6, 3, activation="silu", name="conv")(x)
    x = L.GlobalAveragePooling2D(keepdims=True)(x)
    x = L.Conv2D(2, 1, activation="relu", name="less")(x)
    x = L.Conv2D(6, 1, activation="hard_sigmoid", name="more")(x)
    x = L.Multiply()([x, shortcut])
    y = L.Subtract()([L.Average()([x, shortcut]), L.Maximum()([x, shortcut])])
    return L.Minimum()([y, L.GlobalMaxPooling2D(keepdims=True)(x)])


def pixels(x):
    x = L.Dense(8, activation="gelu", name="wide")(x)
    return L.Dense(4, name="narrow")(x)


def dilated(x):
    x = L.Conv2D(4, 3, dilation_rate=2, padding="same", activation="relu", name="conv")(x)
    return L.DepthwiseConv2D(3, dilation_rate=2, name="each")(x)


def functions(x):
    x = L.Conv2D(4, 1, name="conv")(x)
    return L.Concatenate()([L.Activation(name)(x) for name in ACTIVATIONS])


def normalized(x):
    return L.Conv2D(4, 3, name="conv")(L.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 0.6, 0.7])(x))


def wide(x):
    # The converter leaves kernels of fewer than 1,024 values as they are.
    x = L.Conv2D(16, 3, activation="relu", name="conv")(x)
    x = L.DepthwiseConv2D(3, depth_multiplier=8, name="each")(x)
    return L.Conv2D(16, 1, name="one")(x)


def converted(made, **settings):
    converter = tf.lite.TFLiteConverter.from_keras_model(made)
    for name, value in settings.items():
        setattr(converter, name, value)
    return converter.convert()


def with_metadata(path):
    """Adds what Android's metadata writer adds: x / 127.5 - 1 in front, and labels. Its libraries and TensorFlow's are not for
    one process."""
    program = """
import sys
from tensorflow_lite_support.metadata.python.metadata_writers import image_classifier
path, labels = sys.argv[1:]
data = open(path, "rb").read()
writer = image_classifier.MetadataWriter.create_for_inference(data, [127.5], [127.5], [labels])
open(path, "wb").write(bytes(writer.populate()))
"""
    with tempfile.TemporaryDirectory() as folder:
        labels = os.path.join(folder, "labels.txt")
        with open(labels, "w") as file:
            file.write("cat\ndog\ncow\n")
        subprocess.run([sys.executable, "-c", program, path, labels], check=True)


def applications(folder, names):
    """Keras's applications at a small size, all or some, with statistics that are none of a fresh network's."""
    os.makedirs(folder, exist_ok=True)
    answers = {}
    all_of = {
        "MobileNet": 32, "MobileNetV2": 32, "MobileNetV3Small": 32, "MobileNetV3Large": 32, "Xception": 71, "DenseNet121": 32,
        "ResNet50": 32, "ResNet50V2": 32, "VGG16": 32, "InceptionV3": 75, "InceptionResNetV2": 75, "EfficientNetB0": 32,
        "EfficientNetV2B0": 32, "NASNetMobile": 32, "ConvNeXtTiny": 32,
    }
    for name, size in all_of.items():
        if names and name not in names:
            continue
        keras.utils.set_random_seed(1)
        keras.backend.clear_session()
        made = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
        rng = np.random.RandomState(5)
        for variable in made.weights:
            if variable.name in ("moving_mean", "beta", "bias"):
                variable.assign(rng.uniform(-0.2, 0.2, variable.shape))
            if variable.name in ("moving_variance", "gamma"):
                variable.assign(rng.uniform(0.7, 1.3, variable.shape))
        with open(os.path.join(folder, f"{name}.tflite"), "wb") as file:
            file.write(converted(made))
        preprocessing = "none" if name.startswith(("MobileNetV3", "Efficient", "ConvNeXt")) else "tf"
        if name.startswith(("ResNet50", "VGG")) and not name.endswith("V2"):
            preprocessing = "caffe"
        if name.startswith("DenseNet"):
            preprocessing = "torch"
        pixels = image((size, size, 3))
        inputs = keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=preprocessing) if preprocessing != "none" else pixels
        answers[name] = np.asarray(made(inputs, training=False))[0].tolist()
        print(name, flush=True)
    with open(os.path.join(folder, "answers.json"), "w") as file:
        json.dump(answers, file)


def main():
    if len(sys.argv) > 1:
        return applications(sys.argv[1], sys.argv[2:])
    os.makedirs(OUT, exist_ok=True)
    keras.utils.set_random_seed(1)
    answers = {}

    def write(name, data, answer):
        with open(os.path.join(OUT, f"{name}.tflite"), "wb") as file:
            file.write(data)
        if answer is not None:
            answers[name] = np.asarray(answer)[0].tolist()

    pixels_in = image((HEIGHT, WIDTH, 3))
    for name, body in [("mobile", mobile), ("norms", norms), ("shapes", shapes), ("squeeze", squeeze), ("pixels", pixels),
                       ("dilated", dilated), ("functions", functions), ("normalized", normalized)]:
        made = model(name, body, pool=name != "shapes")
        write(name, converted(made), made(pixels_in, training=False))
        if name == "mobile":
            half = {"optimizations": [tf.lite.Optimize.DEFAULT], "target_spec": tf.lite.TargetSpec(supported_types=[tf.float16])}
            write("half", converted(made, **half), made(pixels_in, training=False))
            samples = lambda: ([pixels_in * share] for share in (0.1, 0.5, 1.0))
            whole = converted(made, optimizations=[tf.lite.Optimize.DEFAULT], representative_dataset=samples,
                              target_spec=tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS_INT8]),
                              inference_input_type=tf.uint8, inference_output_type=tf.uint8)
            write("integers", whole, None)
    made = model("wide", wide)
    write("bytes", converted(made, optimizations=[tf.lite.Optimize.DEFAULT]), made(pixels_in, training=False))
    # Preprocessing that the metadata says, and not the graph.
    images = keras.Input((HEIGHT, WIDTH, 3))
    x = L.GlobalAveragePooling2D()(mobile(images))
    said = keras.Model(images, L.Dense(3, activation="softmax", name="classes")(x))
    fill(said)
    write("said", converted(said), said(pixels_in / 127.5 - 1.0, training=False))
    with_metadata(os.path.join(OUT, "said.tflite"))
    with open(os.path.join(OUT, "answers.json"), "w") as file:
        json.dump(answers, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
