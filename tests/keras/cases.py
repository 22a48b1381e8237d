"""Files of cases: a model's own configuration, its weights, one input, and what Keras answers.

A file is gzipped safetensors. Its metadata's `cases` is a list of
    {"name": NAME, "config": the model's JSON, "weights": [the variables' paths, in Keras's order]}
and its tensors are NAME/input, NAME/output and NAME/weights/I, all f32, as Keras lays them out. An entry with
`weights_of` has the weights of the case that it names, and one with `input_of` its input.
"""

import gzip
import json
import os

import keras
import numpy as np
import tf_keras
from safetensors.numpy import save

import formula


def spread(name, shape, low=-3.0, high=3.0):
    return (low + (high - low) * formula.uniform(name, int(np.prod(shape)))).astype(np.float32).reshape(shape)


def fresh():
    """Names start over, and so do the seeds that layers draw for their configurations."""
    keras.backend.clear_session()
    tf_keras.backend.clear_session()
    keras.utils.set_random_seed(0)


def path(variable):
    """`conv2d/kernel` of Keras 3, `conv2d/kernel:0` of Keras 2."""
    return variable.path if hasattr(variable, "path") else variable.name


def name_of(variable):
    """The variable by its layer's name and its own: `conv2d/kernel`, however deep the layer is."""
    return "/".join(path(variable).split(":")[0].split("/")[-2:])


def fill(model, kept=None):
    """Fills every variable by its name: kernels that keep the size of values, statistics near 0 and 1.

    Where `kept` has a value of the variable's shape it is that.
    """
    values = []
    for variable in model.weights:
        name, shape = name_of(variable), tuple(int(size) for size in variable.shape)
        kind = name.split("/")[-1]
        if kept and name in kept and kept[name].shape == shape:
            values.append(kept[name])
            continue
        if kind in ("mean", "variance", "count") or kind.startswith("vector"):
            values.append(np.asarray(variable))  # What a layer has adapted to is for its data to say.
            continue
        if kind.endswith("kernel"):
            width = np.sqrt(3.0 / float(np.prod(shape[:2] if kind.startswith("depthwise") else shape[:-1])))
            low, high = -width, width
        else:
            low, high = {"gamma": (0.5, 1.5), "moving_variance": (0.2, 2.2)}.get(kind, (-0.5, 0.5))
        values.append(spread(name, shape, low, high))
    model.set_weights(values)


class Cases:
    def __init__(self):
        self.tensors, self.entries, self.families = {}, [], {}

    def add(self, name, model, inputs, family=None):
        """Of a family, equal weights and equal inputs are written once."""
        assert name not in (entry["name"] for entry in self.entries), name
        inputs = np.ascontiguousarray(inputs, np.float32)
        outputs = np.asarray(model(inputs, training=False)).astype(np.float32)
        assert np.isfinite(outputs).all(), name
        text = model.to_json()
        self.reread(name, model, text, inputs, outputs)
        entry = {"name": name, "config": json.loads(text), "weights": [path(variable) for variable in model.weights]}
        weights = [np.asarray(variable).astype(np.float32) for variable in model.weights]
        self.store(entry, "weights", family, weights, [f"{name}/weights/{i}" for i in range(len(weights))])
        self.store(entry, "input", family, [inputs], [f"{name}/input"])
        self.tensors[f"{name}/output"] = np.ascontiguousarray(outputs)
        self.entries.append(entry)

    def store(self, entry, what, family, values, names):
        """Writes tensors, or that an earlier case of the family has the same."""
        seen = self.families.setdefault((family, what), []) if family else []
        for other, known in seen:
            if values and len(known) == len(values) and all(map(np.array_equal, known, values)):
                entry[f"{what}_of"] = other
                return
        seen.append((entry["name"], values))
        self.tensors.update({key: np.array(value, order="C") for key, value in zip(names, values)})

    @staticmethod
    def reread(name, model, text, inputs, outputs):
        """The configuration and the weights have to be all: from them Keras itself answers the same."""
        K = keras if isinstance(model, keras.Model) else tf_keras
        again = K.models.model_from_json(text)
        again.set_weights(model.get_weights())
        for layer in again.layers:
            if hasattr(layer, "finalize_state"):
                layer.finalize_state()  # As Keras does once it has read a Normalization's weights from a file.
        answer = np.asarray(again(inputs, training=False)).astype(np.float32)
        assert np.allclose(answer, outputs, rtol=1e-6, atol=1e-6), name

    def save(self, file):
        os.makedirs(os.path.dirname(file), exist_ok=True)
        text = json.dumps(self.entries, separators=(",", ":"), allow_nan=False)
        data = save(self.tensors, metadata={"cases": text, "keras": keras.__version__,
                                            "tf_keras": tf_keras.__version__})
        # The header again with its keys in order: as it comes, that of the metadata is another in every run.
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        data = len(header).to_bytes(8, "little") + header + data[end:]
        with open(file, "wb") as target, gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0,
            compresslevel=9) as packed:
            packed.write(data)
        print(f"{os.path.basename(file):32} {len(self.entries):4} cases {os.path.getsize(file):>8} bytes")
