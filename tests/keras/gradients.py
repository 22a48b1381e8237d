"""Writes tests/golden/gradients.safetensors: TensorFlow's gradients of Keras's networks, to compare with.

Run from the repository root, in a venv with `pip install tensorflow-cpu safetensors`:
    python tests/keras/gradients.py
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(__file__))
import formula
from networks import fill, sample


def main():
    # As in networks.py: a difference is then Rekindle's own rounding.
    keras.backend.set_floatx("float64")
    tensors, cases = {}, []
    # With the batch's statistics a value within rounding of a ReLU's kink changes percents, so that InceptionV3's
    # gradients, and MobileNetV2's at most sizes, are not the same in float32 and float64.
    for name, sizes in (("mobilenet_v2", (33, 113)), ("inception_v3", (77,))):
        for live, size in zip((False, True), sizes):
            keras.backend.clear_session()
            if name == "mobilenet_v2":
                model = keras.applications.MobileNetV2(input_shape=(size, size, 3), alpha=0.35, weights=None, classes=5)
                gain = 2.0
            else:
                model = keras.applications.InceptionV3(input_shape=(size, size, 3), weights=None, classes=5)
                gain = 10.0
            fill(model, gain)
            logits = keras.Model(model.input, model.layers[-2].output)
            kernel, bias = model.layers[-1].kernel, model.layers[-1].bias
            images = np.stack([formula.image(f"image/{size}/{i}", size) for i in range(2)])
            inputs = (images / np.float32(127.5) - np.float32(1.0)).astype(np.float64)
            slope = (formula.uniform("slope", 10) - 0.5).astype(np.float32).astype(np.float64).reshape(2, 5)
            with tf.GradientTape() as tape:
                # The normalizations take the batch's statistics where `live`, and the moving ones follow.
                outputs = tf.matmul(logits(inputs, training=live), kernel) + bias
                loss = tf.reduce_sum(outputs * slope)
            wanted = model.trainable_variables
            for variable, gradient in zip(wanted, tape.gradient(loss, wanted)):
                tensors[f"{name}/{int(live)}/{variable.path}"] = sample(np.asarray(gradient))
            tensors[f"{name}/{int(live)}/outputs"] = np.asarray(outputs).astype(np.float32)
            if live:
                for variable in model.non_trainable_variables:
                    tensors[f"{name}/1/{variable.path}"] = sample(np.asarray(variable))
            cases.append({"name": name, "size": size, "live": live})
            print(name, live, np.asarray(outputs))
    path = os.path.join(os.path.dirname(__file__), "..", "golden", "gradients.safetensors")
    save_file(tensors, path, metadata={"cases": json.dumps(cases), "keras": keras.__version__})


if __name__ == "__main__":
    main()
