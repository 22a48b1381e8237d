"""Writes tests/golden/checkpoints/: real files in every layout that Keras and its exporters write, and what the
models in them answer.

Run from the repository root, in a venv with
`pip install tensorflow-cpu tf-keras h5py safetensors tf2onnx onnx`:
    python tests/keras/checkpoints.py

Weights repeat a short table of the variable's own, so that files of 90 MB are small once gzip has had them.
"""

import gzip
import io
import json
import os
import shutil
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import h5py
import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
import tf_keras
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(__file__))
import formula

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "checkpoints")
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
            shape = tuple(variable.shape)
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


def inception(K, **settings):
    return K.applications.InceptionV3(input_shape=(75, 75, 3), weights=None, **settings)


def sequential(K, base):
    L = K.layers
    return K.Sequential([base, L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(3, activation="softmax")])


def tutorial(K, base, augmented=True):
    """The model of TensorFlow's guide to transfer learning: augmentation, preprocessing, one logit."""
    L = K.layers
    x = inputs = K.Input(shape=base.input_shape[1:])
    if augmented:
        x = K.Sequential([L.RandomFlip("horizontal"), L.RandomRotation(0.2)])(x)
    x = K.applications.mobilenet_v2.preprocess_input(x)
    x = base(x, training=False)
    x = L.Dropout(0.2)(L.GlobalAveragePooling2D()(x))
    return K.Model(inputs, L.Dense(1)(x))


def inlined(K, base):
    """The network's layers are the model's own, and the head has one of everything."""
    L = K.layers
    x = L.MaxPooling2D(1)(L.AveragePooling2D(1, padding="same")(base.output))
    x = L.ReLU()(L.BatchNormalization()(L.Dense(16)(L.Flatten()(x))))
    x = L.Dense(8, activation="relu")(L.Rescaling(0.5, 0.1)(x))
    return K.Model(base.input, L.Softmax()(L.Dense(4)(L.Dropout(0.5)(x))))


def images(size):
    return np.stack([formula.image(f"image/{size}/{i}", size) for i in range(2)])


class Golden:
    def __init__(self):
        self.tensors, self.cases = {}, []

    def add(self, name, model, write, preprocessed=True):
        """`write(path)` makes the file; `preprocessed` says whether the model takes values from -1 to 1."""
        size = model.input_shape[1]
        pixels = images(size)
        inputs = pixels / np.float32(127.5) - np.float32(1.0) if preprocessed else pixels
        outputs = np.asarray(model(inputs.astype(np.float32), training=False)).reshape(2, -1)
        if outputs.shape[1] == 1:
            outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
        if np.any(outputs < 0) or np.any(outputs.sum(axis=1) > 1.001):
            e = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True))
            outputs = (e / e.sum(axis=1, keepdims=True)).astype(np.float32)
        pack(name, write)
        self.tensors[name] = np.ascontiguousarray(outputs)
        self.cases.append(name)
        packed = os.path.getsize(os.path.join(OUT, name + ".gz"))
        print(f"{name:40} {packed:>8} bytes  {np.round(outputs, 3).tolist()}")


def fit_once(model):
    """So that the file has an optimizer's state."""
    model.compile("adam", "categorical_crossentropy")
    kept = model.get_weights()
    model.fit(np.zeros((1, *model.input_shape[1:])), np.eye(model.output_shape[-1])[:1], verbose=0)
    model.set_weights(kept)


def rewritten(source, target, dtype):
    """The same weights in h5py's other ways to write: chunks, gzip, shuffle, other numbers, split names."""
    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        layers = [name.decode() if isinstance(name, bytes) else name for name in old.attrs["layer_names"]]
        half = len(layers) // 2
        text = h5py.string_dtype()
        new.attrs.create("layer_names0", layers[:half], dtype=text)
        new.attrs.create("layer_names1", layers[half:], dtype=text)
        for layer in layers:
            group = new.create_group(layer)
            names = [n.decode() if isinstance(n, bytes) else n for n in old[layer].attrs["weight_names"]]
            # The doubled prefix of early versions.
            doubled = [f"{layer}/{name}" for name in names]
            group.attrs.create("weight_names", doubled, dtype=text)
            for name, written in zip(names, doubled):
                value = old[layer][name][()]
                value = value.astype(np.float64 if "moving" in name else dtype)
                group.create_dataset(written, data=value, chunks=True, compression="gzip", shuffle=True)


def onnx_of(K, model, path):
    model(np.zeros((1, *model.input_shape[1:]), np.float32))
    if K is keras:
        model.export(path, format="onnx", verbose=False)
        return
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    call = tf.function(lambda x: model(x, training=False), input_signature=signature)
    tf2onnx.convert.from_function(call, input_signature=signature, output_path=path)


def halves(model):
    """Rounds weights to what float16 holds."""
    model.set_weights([w.astype(np.float16).astype(np.float32) for w in model.get_weights()])


def pack(name, write):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        write(path)
        with open(path, "rb") as file, open(os.path.join(OUT, name + ".gz"), "wb") as target:
            with gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0, compresslevel=9) as packed:
                shutil.copyfileobj(file, packed)


def bad():
    """Files that have to be errors."""
    text = h5py.string_dtype()
    model = mobile(tf_keras, classes=5)
    fill(model)

    def weights(path, skip=(), extra=False, spoil=None):
        with h5py.File(path, "w") as file:
            layers = [layer for layer in model.layers if layer.weights and layer.name not in skip]
            names = [layer.name for layer in layers] + (["extra"] if extra else [])
            file.attrs.create("layer_names", names, dtype=text)
            for layer in layers:
                group = file.create_group(layer.name)
                group.attrs.create("weight_names", [w.name for w in layer.weights], dtype=text)
                for variable in layer.weights:
                    value = variable.numpy()
                    if layer.name == spoil:
                        value.reshape(-1)[3] = np.nan
                    group[variable.name] = value
            if extra:
                group = file.create_group("extra")
                group.attrs.create("weight_names", ["extra/kernel:0"], dtype=text)
                group["extra/kernel:0"] = np.ones((2, 3), np.float32)

    pack("bad_missing_layer.h5", lambda path: weights(path, skip=("block_5_project",)))
    pack("bad_extra_layer.h5", lambda path: weights(path, extra=True))
    pack("bad_nan.h5", lambda path: weights(path, spoil="block_5_project_BN"))

    def cyclic(path):
        with h5py.File(path, "w") as file:
            layers = file.create_group("layers")
            for name in ("a", "b"):
                layers.create_group(name)["layers"] = layers

    pack("bad_cyclic.weights.h5", cyclic)

    def absurd(path):
        with h5py.File(path, "w") as file:
            file.attrs.create("layer_names", ["Conv1"], dtype=text)
            group = file.create_group("Conv1")
            group.attrs.create("weight_names", ["Conv1/kernel:0"], dtype=text)
            group.create_dataset("Conv1/kernel:0", shape=(2**40, 2**20, 8), chunks=(1, 1, 8), dtype="f4")

    pack("bad_absurd.h5", absurd)

    def graph(nodes, constants, path, **save):
        value = onnx.helper.make_tensor_value_info
        made = onnx.helper.make_graph(
            nodes, "graph", [value("x", 1, [None, 32, 32, 3])], [value("y", 1, None)], constants)
        onnx.save(onnx.helper.make_model(made), path, **save)

    node = onnx.helper.make_node
    constant = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    circle = [node("Identity", ["y"], ["z"]), node("Identity", ["z"], ["y"])]
    pack("bad_cyclic.onnx", lambda path: graph(circle, [], path))
    concat = [node("Concat", ["y", "y"], ["z"], axis=1), node("Concat", ["z", "z"], ["y"], axis=1)]
    pack("bad_cyclic_concat.onnx", lambda path: graph(concat, [], path))

    pack("bad_cyclic_join.onnx", lambda path: graph([node("Concat", ["y"], ["y"], axis=1)], [], path))
    pack("bad_cyclic_dense.onnx", lambda path: graph([node("MatMul", ["y", "w"], ["y"])], [constant], path))
    pack("bad_cyclic_bias.onnx", lambda path: graph([node("Add", ["y", "w"], ["y"])], [constant], path))

    def elsewhere(path):
        graph([node("MatMul", ["x", "w"], ["y"])], [constant], path)
        model = onnx.load(path)
        tensor = model.graph.initializer[0]
        onnx.external_data_helper.set_external_data(tensor, "../../etc/passwd")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        with open(path, "wb") as file:
            file.write(model.SerializeToString())

    pack("bad_external.onnx", elsewhere)

    def absurd_tensor(path):
        graph([node("MatMul", ["x", "w"], ["y"])], [constant], path)
        model = onnx.load(path)
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend([2**62, 2**62])
        with open(path, "wb") as file:
            file.write(model.SerializeToString())

    pack("bad_absurd.onnx", absurd_tensor)


def external():
    """The graph of another case, with its weights in a file of their own."""
    with gzip.open(os.path.join(OUT, "mobilenet_v2_keras2.onnx.gz")) as packed:
        model = onnx.load(packed)

    def write(path):
        onnx.save(model, path, save_as_external_data=True, location="external.bin", size_threshold=0)
        pack("external.bin", lambda target: shutil.copy(os.path.join(os.path.dirname(path), "external.bin"), target))

    pack("external.onnx", write)


def main():
    os.makedirs(OUT, exist_ok=True)
    bad()
    golden = Golden()

    def case(name, build, write=None, preprocessed=True, prepare=None, before=None, K=keras):
        keras.backend.clear_session()
        tf_keras.backend.clear_session()
        if before:
            before(K)
        model = build(K)
        fill(model)
        if prepare:
            prepare(model)
        golden.add(name, model, (lambda path: write(model, path)) if write else model.save, preprocessed)

    weights = lambda model, path: model.save_weights(path)
    for network, other in (("mobilenet_v2", mobile), ("inception_v3", inception)):
        def earlier(K):
            """What a session made before shifts automatic names."""
            for _ in range(3):
                K.Sequential([K.layers.Conv2D(4, 1), K.layers.BatchNormalization()])

        top = lambda K: other(K, classes=5)
        base = lambda K: other(K, include_top=False)
        case(f"{network}_keras2_weights.h5", top, weights, K=tf_keras, before=earlier)
        case(f"{network}_keras3.weights.h5", top, weights)
        case(f"{network}_keras3_sequential.keras", lambda K: sequential(K, base(K)), before=earlier)
        case(f"{network}_keras3.onnx", lambda K: sequential(K, base(K)), lambda m, p: onnx_of(keras, m, p))
    mobile_base = lambda K: mobile(K, include_top=False)
    case("mobilenet_v2_keras2_sequential.h5", lambda K: sequential(K, mobile_base(K)), K=tf_keras, prepare=fit_once)
    case("mobilenet_v2_keras2_tutorial.keras", lambda K: tutorial(K, mobile_base(K)), K=tf_keras, preprocessed=False)
    case("mobilenet_v2_keras3_tutorial.keras", lambda K: tutorial(K, mobile_base(K)), preprocessed=False)
    # With augmentation Keras 3.15 exports random operations that ONNX has not.
    case("mobilenet_v2_keras3_tutorial.onnx", lambda K: tutorial(K, mobile_base(K), augmented=False),
         lambda m, p: onnx_of(keras, m, p), preprocessed=False)
    case("mobilenet_v2_keras3_inlined.h5", lambda K: inlined(K, mobile_base(K)))
    case("mobilenet_v2_keras3_inlined.keras", lambda K: inlined(K, mobile_base(K)), before=earlier)
    case("mobilenet_v2_keras2.onnx", lambda K: sequential(K, mobile_base(K)),
         lambda m, p: onnx_of(tf_keras, m, p), K=tf_keras)
    L = keras.layers
    flat = lambda K: K.Sequential([mobile(K, size=64, include_top=False), L.Flatten(), L.Dense(3, activation="softmax")])
    case("mobilenet_v2_keras3_flatten.onnx", flat, lambda m, p: onnx_of(keras, m, p))
    case("inception_v3_keras3_sequential.h5", lambda K: sequential(K, inception(K, include_top=False)))

    def in_halves(model, path):
        with tempfile.TemporaryDirectory() as folder:
            model.save_weights(os.path.join(folder, "plain.h5"))
            rewritten(os.path.join(folder, "plain.h5"), path, np.float16)

    case("mobilenet_v2_chunked_halves.h5", lambda K: mobile(K, classes=5), in_halves, K=tf_keras, prepare=halves)
    external()
    save_file(golden.tensors, os.path.join(OUT, "outputs.safetensors"),
              metadata={"cases": json.dumps(golden.cases), "keras": keras.__version__, "tf_keras": tf_keras.__version__})


if __name__ == "__main__":
    main()
