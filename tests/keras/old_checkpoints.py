"""Writes tests/golden/checkpoints/old_*: real files of Keras 2.0 to 2.14, and what the models in them answer.

Run from the repository root, once for each version, each in a venv of its own:
    python 3.6:  pip install 'keras==2.0.8' 'tensorflow==1.4.0' 'h5py<2.9' 'protobuf<3.20'
    python 3.6:  pip install 'keras==2.2.4' 'tensorflow==1.13.2' 'h5py<3' 'protobuf<3.20'
    python 3.7:  pip install 'tensorflow-cpu==2.2.0' 'protobuf<3.20'
    python 3.11: pip install 'tensorflow-cpu==2.12.1'
    python 3.11: pip install 'tensorflow-cpu==2.14.1'
    python tests/keras/old_checkpoints.py

Weights are those of checkpoints.py.
"""

import gzip
import json
import os
import shutil
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import numpy as np

try:
    import keras as K

    K.applications.InceptionV3
except (ImportError, AttributeError):
    from tensorflow import keras as K

sys.path.insert(0, os.path.dirname(__file__))
import models

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "checkpoints")
VERSION = K.__version__.split("-")[0]


def main():
    outputs = {}

    def case(name, build, write, preprocessed=True):
        K.backend.clear_session()
        for _ in range(3):
            # What a session made before shifts automatic names.
            K.models.Sequential([K.layers.Conv2D(4, 1, input_shape=(8, 8, 3)), K.layers.BatchNormalization()])
        model = build()
        models.fill(model)
        size = int(model.input_shape[1])
        inputs = models.images(size)
        if preprocessed:
            inputs = inputs / np.float32(127.5) - np.float32(1.0)
        name = "old_%s_%s" % (VERSION, name)
        models.pack(OUT, name, lambda path: write(model, path))
        outputs[name] = models.probabilities(np.asarray(model.predict(inputs.astype(np.float32)))).tolist()
        print(name, os.path.getsize(os.path.join(OUT, name + ".gz")), np.round(outputs[name], 3).tolist())

    def whole(model, path):
        """With an optimizer's state."""
        model.compile("adam", "categorical_crossentropy")
        kept = model.get_weights()
        model.fit(np.zeros((1,) + model.input_shape[1:]), np.eye(model.output_shape[-1])[:1], verbose=0)
        model.set_weights(kept)
        model.save(path)

    weights = lambda model, path: model.save_weights(path)
    version = tuple(int(part) for part in VERSION.split(".")[:2])
    mobile_base = lambda: models.mobile(K, include_top=False)
    if version < (2, 2):
        case("inception_v3_weights.h5", lambda: models.inception(K, size=139, classes=5), weights)
        case("inception_v3_sequential.h5", lambda: models.sequential(K, models.inception(K, size=139, include_top=False)),
             lambda model, path: model.save(path))
    else:
        case("mobilenet_v2_weights.h5", lambda: models.mobile(K, classes=5), weights)
        case("mobilenet_v2_sequential.h5", lambda: models.sequential(K, mobile_base()), whole)
        case("mobilenet_v2_inlined.h5", lambda: models.inlined(K, mobile_base(), old=version < (2, 4)), whole)
    if version >= (2, 12):
        case("mobilenet_v2.weights.h5", lambda: models.mobile(K, classes=5), weights)
        case("mobilenet_v2_tutorial.keras", lambda: models.tutorial(K, mobile_base()), whole, preprocessed=False)
    with open(os.path.join(OUT, "old_%s.json" % VERSION), "w") as file:
        json.dump(outputs, file, indent=1)


if __name__ == "__main__":
    main()
