"""Writes tests/golden/checkpoints/: real files in every layout that Keras and its exporters write, and what the
models in them answer.

Run from the repository root, in a venv with
`pip install tensorflow-cpu tf-keras h5py safetensors tf2onnx onnx`:
    python tests/keras/checkpoints.py

The models and their weights are models.py's.
"""

import gzip
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
from models import fill, images, inception, inlined, mobile, pack as pack_into, probabilities, sequential, tutorial

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "checkpoints")


def pack(name, write):
    pack_into(OUT, name, write)


class Golden:
    def __init__(self):
        self.tensors, self.cases = {}, []

    def add(self, name, model, write, preprocessed=True):
        """`write(path)` makes the file; `preprocessed` says whether the model takes values from -1 to 1."""
        size = model.input_shape[1]
        pixels = images(size)
        inputs = pixels / np.float32(127.5) - np.float32(1.0) if preprocessed else pixels
        outputs = probabilities(np.asarray(model(inputs.astype(np.float32), training=False)))
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
