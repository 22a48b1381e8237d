"""Writes tests/golden/optimizers.safetensors: what Keras's optimizers make of a kernel and a bias in five steps.

Run from the repository root, in a venv with `pip install tensorflow-cpu safetensors`:
    python tests/keras/optimizers.py
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(__file__))
import formula

STEPS = 5
RATE = 0.01

# The names are those of Rekindle's rules in tests/workspace/trainer.rs.
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(RATE, beta_1=0.9, beta_2=0.99, epsilon=1e-3),
    "adam_default": lambda: keras.optimizers.Adam(RATE),
    "adam_w": lambda: keras.optimizers.AdamW(RATE, weight_decay=0.1, beta_1=0.9, beta_2=0.99, epsilon=1e-3),
    "adam_w_default": lambda: keras.optimizers.AdamW(RATE),
    "sgd": lambda: keras.optimizers.SGD(RATE),
    "momentum": lambda: keras.optimizers.SGD(RATE, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(RATE, momentum=0.9, nesterov=True),
    "rms_prop": lambda: keras.optimizers.RMSprop(RATE, rho=0.9, momentum=0.5, epsilon=1e-3),
    "rms_prop_default": lambda: keras.optimizers.RMSprop(RATE),
}


def values(name, count):
    return (formula.uniform(name, count) - 0.5).astype(np.float32)


def main():
    # In float64, so that a difference is Rekindle's own rounding.
    keras.backend.set_floatx("float64")
    tensors = {}
    for name, make in OPTIMIZERS.items():
        kernel = keras.Variable(values("kernel", 40).reshape(8, 5), name="kernel", dtype="float64")
        bias = keras.Variable(values("bias", 5), name="bias", dtype="float64")
        optimizer = make()
        for step in range(1, STEPS + 1):
            # Keras is given the gradients of half the loss, as Rekindle's rule is told to scale by 0.5.
            scale = np.float64(np.float32(step) + np.float32(0.5))
            gradients = [
                keras.ops.convert_to_tensor(
                    (values(f"gradient/{v}", n).astype(np.float64) * scale).astype(np.float32).astype(np.float64) * 0.5,
                    dtype="float64",
                )
                for v, n in (("kernel", 40), ("bias", 5))
            ]
            gradients[0] = keras.ops.reshape(gradients[0], (8, 5))
            optimizer.apply(gradients, [kernel, bias])
        tensors[f"{name}/kernel"] = np.asarray(kernel.value).astype(np.float32).reshape(-1)
        tensors[f"{name}/bias"] = np.asarray(bias.value).astype(np.float32)
    path = os.path.join(os.path.dirname(__file__), "..", "golden", "optimizers.safetensors")
    save_file(tensors, path, metadata={"keras": keras.__version__, "steps": json.dumps(STEPS)})


if __name__ == "__main__":
    main()
