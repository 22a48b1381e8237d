"""Writes tests/golden/checkpoints/tensorflow/: TensorFlow checkpoints of both versions, and values.json with what they hold.

Run from the repository root, in a venv with `pip install tensorflow-cpu tf-keras`:
    python tests/keras/tf_checkpoints.py

Every tensor has its own values: they count from a number of its own in steps of 1/4, which every type can hold.
"""

import glob
import gzip
import json
import os
import shutil
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import keras
import numpy as np
import tensorflow as tf
import tf_keras

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "checkpoints", "tensorflow")
BLOCK = "InceptionV1/Mixed_3b/Branch_0/Conv2d_0a_1x1"
SAVER = tf.compat.v1.train.SaverDef


def counted(number, shape):
    """Small, so that halves hold them too."""
    return number % 32 + (np.arange(np.prod(shape, dtype=int)) % 64).reshape(shape) / 4


def slim():
    """Names and shapes as TF-Slim's, with what an optimizer and a training leave."""
    norm = {f"{BLOCK}/BatchNorm/{name}": (4,) for name in ("beta", "moving_mean", "moving_variance")}
    tensors = {f"{BLOCK}/weights": (1, 1, 3, 4), **norm}
    tensors |= {f"{name}/{slot}": shape for name, shape in tensors.items() for slot in ("RMSProp", "RMSProp_1", "ExponentialMovingAverage")}
    tensors["InceptionV1/Conv2d_1a_7x7/depthwise_weights"] = (2, 2, 3, 2)
    tensors["InceptionV1/Conv2d_1a_7x7/pointwise_weights"] = (1, 1, 6, 2)
    tensors["InceptionV1/Conv2d_2a/depthwise_weights"] = (2, 2, 3, 1)
    tensors["InceptionV1/Logits/Conv2d_0c_1x1/weights"] = (1, 1, 4, 300)
    tensors["InceptionV1/Logits/Conv2d_0c_1x1/biases"] = (300,)
    tensors["InceptionV1/AuxLogits/Conv2d_1c/weights"] = (1, 1, 2, 2)
    values = {name: counted(number, shape).astype(np.float32) for number, (name, shape) in enumerate(sorted(tensors.items()))}
    values["global_step"] = np.int64(7)
    return values


def types():
    kinds = {"half": np.float16, "bfloat": tf.bfloat16.as_numpy_dtype, "float": np.float32, "double": np.float64, "int": np.int32, "long": np.int64}
    return {f"net/{name}/weights": (counted(number, (2, 5)) - 6).astype(kind) for number, (name, kind) in enumerate(kinds.items())}


def without_bfloat(values):
    """Version 1 has none."""
    return {name: value for name, value in values.items() if "bfloat" not in name}


def save(name, values, version):
    """With the Saver of TensorFlow 1."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {key: tf.compat.v1.get_variable(key, initializer=tf.constant(value)) for key, value in values.items()}
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(variables, write_version=version)
        saver.save(session, place(name), write_meta_graph=False, write_state=False)


def place(name):
    return os.path.join(OUT, name)


def small(K):
    """A layer of each kind, a model in the model, an optimizer, augmentation."""
    L = K.layers
    inner = K.Sequential([K.Input((8, 8, 3)), L.Conv2D(2, 3, use_bias=False), L.BatchNormalization()], name="inner")
    layers = [L.Normalization(), L.RandomFlip(), inner, L.Conv2D(2, 1), L.DepthwiseConv2D(3), L.SeparableConv2D(3, 3)]
    model = K.Sequential([K.Input((8, 8, 3)), *layers, L.Dropout(0.2), L.GlobalAveragePooling2D(), L.Dense(2)], name="outer")
    model.compile("adam", "mse")
    model.fit(np.zeros((1, 8, 8, 3)), np.zeros((1, 2)), verbose=0)
    return model


def fill(model):
    """Values of its own for every variable that a layer has; returns them in the model's order."""
    weights = [weight for weight in model.weights if "seed" not in weight.name and "StateVar" not in weight.name]
    for number, weight in enumerate(weights):
        weight.assign(counted(number, weight.shape).astype(weight.dtype if isinstance(weight.dtype, str) else weight.dtype.name))
    return [np.asarray(weight).astype(float).ravel().tolist() for weight in weights]


def packed(name):
    """The files of a checkpoint, compressed."""
    for path in glob.glob(place(name) + ".index") + glob.glob(place(name) + ".data-*") + glob.glob(place(name)):
        with open(path, "rb") as file, open(path + ".gz", "wb") as target:
            with gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0, compresslevel=9) as archive:
                shutil.copyfileobj(file, archive)
        os.remove(path)


def family():
    """A known network, whose every variable has one value: by its objects, and by names in both versions."""
    model = tf_keras.applications.MobileNet(input_shape=(32, 32, 3), alpha=0.25, weights=None, include_top=False)
    for number, weight in enumerate(model.weights):
        weight.assign(np.full(weight.shape, number + 1.0, np.float32))
    model.save_weights(place("mobilenet"), save_format="tf")
    values = {weight.name.removesuffix(":0"): weight.numpy() for weight in model.weights}
    save("mobilenet_v1.ckpt", values, SAVER.V1)
    save("mobilenet_v2.ckpt", values, SAVER.V2)
    for name in ("mobilenet", "mobilenet_v1.ckpt", "mobilenet_v2.ckpt"):
        packed(name)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    by_name, in_order = {}, {}
    for name, values, version in [("slim_v1.ckpt", slim(), SAVER.V1), ("slim_v2.ckpt", slim(), SAVER.V2),
                                  ("types_v1.ckpt", without_bfloat(types()), SAVER.V1), ("types_v2.ckpt", types(), SAVER.V2)]:
        save(name, values, version)
        by_name[name] = {key: np.asarray(value).astype(float).ravel().tolist() for key, value in values.items()}

    with tempfile.TemporaryDirectory() as folder:
        # Two files of data.
        halves = list(types().items())[:3], list(types().items())[3:]
        parts = [os.path.join(folder, str(number)) for number in range(2)]
        for part, half in zip(parts, halves):
            tf.raw_ops.SaveV2(prefix=part, tensor_names=[name for name, _ in half], shape_and_slices=[""] * 3, tensors=[tf.constant(value) for _, value in half])
        tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=place("two"), delete_old_dirs=False)
        by_name["two"] = by_name["types_v2.ckpt"]

    # Variables in two slices.
    one, all_ = tf.constant(counted(1, (2, 3)).astype(np.float32)), tf.constant(counted(2, (4, 3)).astype(np.float32))
    names, slices = ["net/a/weights", "net/b/weights", "net/b/weights"], ["", "4 3 0,2:0,3", "4 3 2,2:0,3"]
    tf.raw_ops.SaveV2(prefix=place("partitioned_v2"), tensor_names=names, shape_and_slices=slices, tensors=[one, all_[:2], all_[2:]])
    tf.raw_ops.SaveSlices(filename=place("partitioned_v1"), tensor_names=names, shapes_and_slices=slices, data=[one, all_[:2], all_[2:]])

    for K, tag in ((tf_keras, "keras2"), (keras, "keras3")):
        model = small(K)
        expected = fill(model)
        for name in (f"{tag}_checkpoint", f"{tag}_weights", f"{tag}_saved_model"):
            in_order[name] = expected
        tf.train.Checkpoint(model=model).write(place(f"{tag}_checkpoint"))
        if K is tf_keras:
            model.save_weights(place(f"{tag}_weights"), save_format="tf")
        with tempfile.TemporaryDirectory() as folder:
            model.save(folder, save_format="tf") if K is tf_keras else model.export(folder, verbose=False)
            for path in glob.glob(os.path.join(folder, "variables", "variables.*")):
                shutil.copy(path, place(os.path.basename(path).replace("variables", f"{tag}_saved_model", 1)))
    del in_order["keras3_weights"]
    family()
    # TensorFlow notes the last one's name there.
    for note in glob.glob(place("checkpoint")):
        os.remove(note)
    with open(place("values.json"), "w") as file:
        json.dump({"by_name": by_name, "in_order": in_order}, file)
    for path in sorted(glob.glob(place("*"))):
        print(os.path.getsize(path), os.path.basename(path))


if __name__ == "__main__":
    main()
