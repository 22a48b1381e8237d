"""One file of layer_cases.py's: how its models are made, and what they are shown."""

import os

import keras
import numpy as np

from cases import Cases, fill, fresh, spread

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "layers")
MAP, FLAT = (7, 6, 4), (10,)


class Group:
    def __init__(self, file, K=keras):
        self.file, self.K, self.cases = file, K, Cases()

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        if failed is None:
            self.cases.save(os.path.join(OUT, self.file + ".safetensors.gz"))

    def add(self, name, model, inputs=None):
        shape = (2, *model.input_shape[1:])
        fill(model)
        self.cases.add(name, model, spread(f"input/{shape}", shape) if inputs is None else inputs, family=self.file)

    def row(self, name, *layers, shape=MAP, inputs=None):
        """A Sequential model; each of `layers` is called with keras.layers, after names have started over."""
        fresh()
        shape = shape if inputs is None else inputs.shape[1:]
        self.add(name, self.K.Sequential([self.K.Input(shape), *(make(self.K.layers) for make in layers)]), inputs)

    def graph(self, name, call, shape=MAP, inputs=None):
        """A functional model: `call` takes the input's tensor to the output's."""
        fresh()
        x = self.K.Input(shape if inputs is None else inputs.shape[1:])
        self.add(name, self.K.Model(x, call(x)), inputs)

    def vary(self, layer, plain=None, together=(), shape=MAP, inputs=None, on="", **each):
        """One case of the plain settings, one for each value in `each`, and one for each dict in `together`."""
        variants = [{}] + [{key: value} for key, values in each.items() for value in values] + list(together)
        for changed in variants:
            words = ", ".join(f"{key}={word(value)}" for key, value in changed.items())
            settings = {**(plain or {}), **changed}
            self.row(f"{layer}({words}){on}", lambda L: getattr(L, layer)(**settings), shape=shape, inputs=inputs)


def word(value):
    return repr(value) if isinstance(value, (bool, int, float, str, tuple, list, type(None))) else type(value).__name__


def edges(shape=(4, 3, 4)):
    """Values from -8 to 8, the first of them where activations change their rule."""
    x = spread("edges", (2, *shape), -8.0, 8.0)
    special = [-8.0, -6.0, -3.0, -2.5, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0, 2.5, 3.0, 6.0, 7.5, 8.0]
    x.reshape(-1)[: len(special)] = special
    return x


def pixels(shape):
    return np.floor(spread(f"pixels/{shape}", (2, *shape), 0.0, 256.0))


def adapted(layer):
    layer.adapt(spread("adapt", (5, *MAP), -1.0, 4.0))
    return layer
