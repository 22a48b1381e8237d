"""Writes tests/golden/tfjs/: TF.js layers models, a Teachable Machine export for Keras, and answers.json with what Keras answers.

Run from the repository root, in a venv with `pip install tensorflow-cpu tf-keras`, `pip install --no-deps tensorflowjs six`:
    python tests/keras/tfjs.py

`tensorflowjs`'s own functions write and read the files that its converter writes; the package as a whole is not imported,
since it asks for others that have nothing to do with layers models. What TF.js itself writes, and Teachable Machine with it
(`teachable`), has no Python program: it is written here after tfjs-layers' `model.toJSON` and tfjs-core's
`io/browser_files.ts`.
"""

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import types

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import h5py
import keras
import numpy as np
import tf_keras

package = importlib.util.find_spec("tensorflowjs").submodule_search_locations[0]
for name in ("tensorflowjs", "tensorflowjs.converters"):
    module = types.ModuleType(name)
    module.__path__ = [os.path.join(package, *name.split(".")[1:])]
    sys.modules[name] = module
from tensorflowjs import read_weights
from tensorflowjs.converters import keras_h5_conversion as conversion

import formula

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "tfjs")
SIZE = 16
LABELS = ["Class 1", "ein Hund", "3 cats"]


def image():
    """Bytes, as tests/src computes them too."""
    return (np.arange(SIZE * SIZE * 3) * 37 % 256).reshape(1, SIZE, SIZE, 3).astype(np.float32)


def fill(model):
    for variable in model.weights:
        layer, name = (variable.path if hasattr(variable, "path") else variable.name).split(":")[0].split("/")[-2:]
        gain = 4.0 if layer in ("dense_Dense2", "classes") else 1.0
        variable.assign(formula.variable(layer, name, tuple(variable.shape), gain, depthwise="depthwise" in name))


def teachable():
    """Its network in small: a model in a Sequential, and a Sequential for a head."""
    L = tf_keras.layers
    x = images = L.Input((SIZE, SIZE, 3), name="input_1")
    x = L.ZeroPadding2D(((0, 1), (0, 1)), name="Conv1_pad")(x)
    x = L.Conv2D(6, 3, strides=2, use_bias=False, name="Conv1")(x)
    x = L.BatchNormalization(epsilon=1e-3, momentum=0.999, name="bn_Conv1")(x)
    x = shortcut = L.ReLU(6.0, name="Conv1_relu")(x)
    x = L.DepthwiseConv2D(3, padding="same", use_bias=False, name="expanded_depthwise")(x)
    x = L.BatchNormalization(epsilon=1e-3, name="expanded_depthwise_BN")(x)
    x = L.ReLU(6.0, name="expanded_depthwise_relu")(x)
    x = L.Conv2D(6, 1, use_bias=False, name="expanded_project")(x)
    x = L.Add(name="add")([shortcut, x])
    base = tf_keras.Model(images, x, name="model1")
    pooled = tf_keras.Sequential([base, L.GlobalAveragePooling2D(name="global_average_pooling2d_GlobalAveragePooling2D1")], name="sequential_1")
    head = tf_keras.Sequential([L.Input((6,)), L.Dense(8, activation="relu", name="dense_Dense1"), L.Dense(3, activation="softmax", use_bias=False, name="dense_Dense2")], name="sequential_3")
    return tf_keras.Sequential([tf_keras.Input((SIZE, SIZE, 3)), pooled, head], name="sequential_4")


def keras3():
    L = keras.layers
    x = images = keras.Input((SIZE, SIZE, 3))
    x = L.Rescaling(1 / 127.5, -1.0)(x)
    x = L.Conv2D(6, 3, strides=2, padding="same", name="stem")(x)
    x = shortcut = L.BatchNormalization(name="norm")(x)
    x = L.SeparableConv2D(6, 3, padding="same", activation="relu", name="separable")(x)
    x = L.Add()([x, shortcut])
    inner = keras.Sequential([keras.Input(x.shape[1:]), L.Conv2D(8, 1, activation="swish", name="pixel"), L.Dropout(0.2)])
    x = inner(x)
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(images, L.Dense(3, activation="softmax", name="classes")(x))


def tf(images):
    return images / 127.5 - 1


def none(images):
    return images


def of_tfjs(config):
    """As tfjs-layers' toJSON has a configuration: `Model` for `Functional`, without what only Python knows."""
    if isinstance(config, list):
        return [of_tfjs(entry) for entry in config]
    if not isinstance(config, dict):
        return config
    dropped = ("module", "registered_name", "build_config", "build_input_shape", "groups", "ragged", "dtype")
    renamed = {key: of_tfjs(value) for key, value in config.items() if key not in dropped}
    if renamed.get("class_name") == "Functional":
        renamed["class_name"] = "Model"
    return renamed


def answer(model, preprocess):
    return model.predict(preprocess(image()), verbose=0)[0].tolist()


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    answers = {}
    work = tempfile.mkdtemp()

    model = teachable()
    fill(model)
    exact = answer(model, tf)
    h5 = os.path.join(work, "keras_model.h5")
    model.save(h5)
    os.makedirs(os.path.join(OUT, "keras_zip"))
    shutil.copy(h5, os.path.join(OUT, "keras_zip", "keras_model.h5"))
    with open(os.path.join(OUT, "keras_zip", "labels.txt"), "w") as file:
        file.writelines(f"{number} {label}\n" for number, label in enumerate(LABELS))
    answers["keras_zip"] = exact

    topology, groups = conversion.h5_merged_saved_model_to_tfjs_format(h5)
    for name, quantization, shard in [("keras2", None, 700), ("uint8", {"uint8": "*"}, 1 << 22), ("uint16", {"uint16": "*"}, 1 << 22), ("float16", {"float16": "*"}, 1 << 22)]:
        folder = os.path.join(OUT, name)
        os.makedirs(folder)
        conversion.write_artifacts(topology, groups, folder, quantization_dtype_map=quantization, weight_shard_size_bytes=shard)
        with open(os.path.join(folder, "model.json")) as file:
            manifest = json.load(file)["weightsManifest"]
        values = {entry["name"]: entry["data"] for entry in read_weights.read_weights(manifest, folder, flatten=True)}
        model.set_weights([values[variable.name.split(":")[0]] for variable in model.weights])
        answers[name] = answer(model, tf)
    fill(model)

    folder = os.path.join(OUT, "teachable")
    os.makedirs(folder)
    weights = [{"name": variable.name.split(":")[0], "shape": list(variable.shape), "dtype": "float32"} for variable in model.weights]
    config = {"class_name": "Sequential", "config": of_tfjs(json.loads(json.dumps(topology["model_config"]["config"])))}
    written = {
        "modelTopology": config | {"keras_version": "tfjs-layers 1.3.1", "backend": "tensor_flow.js"},
        "weightsManifest": [{"paths": ["./weights.bin"], "weights": weights}],
    }
    with open(os.path.join(folder, "model.json"), "w") as file:
        json.dump(written, file)
    with open(os.path.join(folder, "weights.bin"), "wb") as file:
        file.writelines(value.astype("<f4").tobytes() for value in model.get_weights())
    metadata = {"tfjsVersion": "1.3.1", "tmVersion": "2.4.7", "packageVersion": "0.8.4-alpha2", "packageName": "@teachablemachine/image", "timeStamp": "2024-05-02T08:11:40.562Z", "userMetadata": {}, "modelName": "tm-my-image-model", "labels": LABELS, "imageSize": SIZE}
    with open(os.path.join(folder, "metadata.json"), "w") as file:
        json.dump(metadata, file)
    answers["teachable"] = exact

    model = keras3()
    fill(model)
    model.save(os.path.join(work, "model.keras"))
    shutil.unpack_archive(os.path.join(work, "model.keras"), os.path.join(work, "unpacked"), "zip")
    read = {name: json.load(open(os.path.join(work, "unpacked", f"{name}.json"))) for name in ("metadata", "config")}
    with h5py.File(os.path.join(work, "unpacked", "model.weights.h5")) as weights:
        topology, groups = conversion.h5_v3_merged_saved_model_to_tfjs_format(weights, read["metadata"], read["config"])
    os.makedirs(os.path.join(OUT, "keras3"))
    conversion.write_artifacts(topology, groups, os.path.join(OUT, "keras3"))
    answers["keras3"] = answer(model, none)

    with open(os.path.join(OUT, "answers.json"), "w") as file:
        json.dump(answers, file, indent=1)
    shutil.rmtree(work)


main()
