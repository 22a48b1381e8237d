"""Writes tests/golden/saved_model/: Keras 2's SavedModel folders, what Keras 3 exports, and answers.json with what Keras answers.

Run from the repository root, in a venv with `pip install tensorflow-cpu tf-keras`:
    python tests/keras/saved_models.py

TensorFlow's functions and graphs, which nothing here reads, are taken out of saved_model.pb: they are hundreds of kilobytes.
`keras24` has the configuration among the objects of saved_model.pb, as TensorFlow 2.0 to 2.4 wrote it: there is no
keras_metadata.pb, whose texts are moved.
"""

import json
import os
import shutil

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf import saved_model_pb2
from tf_keras.protobuf import saved_metadata_pb2

import formula

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "saved_model")
SIZE = 16


def image():
    """Bytes, as the test computes them too."""
    return (np.arange(SIZE * SIZE * 3) * 37 % 256).reshape(1, SIZE, SIZE, 3).astype(np.float32)


def fill(model):
    for variable in model.weights:
        layer, name = variable.name.split(":")[0].split("/")[-2:]
        gain = 4.0 if layer == "classes" else 1.0
        variable.assign(formula.variable(layer, name, tuple(variable.shape), gain, depthwise="depthwise" in name))


def functional():
    """A layer of each kind, a model in the model, an optimizer."""
    L = tf_keras.layers
    inner = tf_keras.Sequential([tf_keras.Input((SIZE, SIZE, 3)), L.Conv2D(4, 3, strides=2, use_bias=False, name="first"), L.BatchNormalization(name="norm"), L.ReLU(6.0)], name="inner")
    images = tf_keras.Input((SIZE, SIZE, 3))
    x = L.Rescaling(1 / 127.5, -1.0)(images)
    x = shortcut = inner(x)
    x = L.DepthwiseConv2D(3, padding="same", name="each")(x)
    x = L.SeparableConv2D(4, 3, padding="same", activation="swish", name="separable")(x)
    x = L.Add()([x, shortcut])
    x = L.GlobalAveragePooling2D()(x)
    model = tf_keras.Model(images, L.Dense(3, activation="softmax", name="classes")(x))
    model.compile("adam", "mse")
    model.fit(np.zeros((1, SIZE, SIZE, 3)), np.zeros((1, 3)), verbose=0)
    fill(model)
    return model


class Own(tf_keras.Model):
    """A model that is a class of its own has no configuration."""

    def __init__(self):
        super().__init__()
        self.dense = tf_keras.layers.Dense(2)

    def call(self, images):
        return self.dense(tf.reduce_mean(images, (1, 2)))


def stripped(folder):
    path = os.path.join(folder, "saved_model.pb")
    model = saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        model.ParseFromString(file.read())
    for graph in model.meta_graphs:
        graph.ClearField("graph_def")
        graph.ClearField("collection_def")
        graph.ClearField("signature_def")
        graph.meta_info_def.ClearField("stripped_op_list")
        graph.object_graph_def.ClearField("concrete_functions")
        for node in graph.object_graph_def.nodes:
            if node.HasField("function"):
                node.function.Clear()
    return path, model


def write(path, message):
    with open(path, "wb") as file:
        file.write(message.SerializeToString(deterministic=True))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    model = functional()
    answers = {}
    for name in ("keras2", "keras24"):
        folder = os.path.join(OUT, name)
        model.save(folder, save_format="tf")
        path, proto = stripped(folder)
        if name == "keras24":
            metadata = saved_metadata_pb2.SavedMetadata()
            with open(os.path.join(folder, "keras_metadata.pb"), "rb") as file:
                metadata.ParseFromString(file.read())
            nodes = proto.meta_graphs[0].object_graph_def.nodes
            for node in metadata.nodes:
                nodes[node.node_id].user_object.metadata = node.metadata
            os.remove(os.path.join(folder, "keras_metadata.pb"))
        write(path, proto)
        answers[name] = model.predict(image(), verbose=0)[0].tolist()

    own = Own()
    own(image())
    folder = os.path.join(OUT, "own")
    own.save(folder, save_format="tf")
    write(*stripped(folder))

    L = keras.layers
    exported = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(2, 1), L.GlobalAveragePooling2D(), L.Dense(3, activation="softmax")])
    folder = os.path.join(OUT, "exported")
    exported.export(folder, verbose=False)
    write(*stripped(folder))
    for folder, _, files in os.walk(OUT):
        for name in set(files) & {"fingerprint.pb"}:
            os.remove(os.path.join(folder, name))

    with open(os.path.join(OUT, "answers.json"), "w") as file:
        json.dump(answers, file, indent=1)


main()
