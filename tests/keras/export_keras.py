"""Loads what Rekindle exports in Keras 3 and in tf-keras, and compares predictions and weights.

Run by hand, with the files that a test leaves:

    REKINDLE_EXPORT_DIR=DIR cargo test -p rekindle-weights --test export_keras -- --ignored writes_files_for_keras
    python tests/keras/export_keras.py DIR

For each operation and each family: `.keras` in Keras 3, `.h5` in Keras 3 and in tf-keras, without custom objects, against
Rekindle's answers (1e-5 absolute of probabilities; of values that are larger than 1, relative). Weights alone are loaded by
`load_weights` into Keras's own application, and are then the same numbers.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from safetensors.numpy import load_file

TOLERANCE = 1e-5


def applications(keras, case):
    """Keras's own network of a case, with ImageNet's top and random weights."""
    names = {
        "ResNet-50": "ResNet50",
    }
    title = case["application"]
    make = getattr(keras.applications, names.get(title, title.replace("-", "")))
    settings = {} if case["alpha"] is None else {"alpha": case["alpha"]}
    shape = (*case["size"], 3)
    return make(weights=None, input_shape=shape, classes=1000, **settings)


def difference(found, expected):
    if found.shape != expected.shape:
        return float("inf")
    worst = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    return float("inf") if np.isnan(worst).any() else float(worst.max())


def predictions(keras, folder, cases, answers, endings):
    """The largest difference of each ending."""
    worst, wrong = {ending: 0.0 for ending in endings}, []
    for case in cases:
        name = case["name"]
        for ending in set(endings) & set(case["endings"]):
            try:
                model = keras.models.load_model(folder / f"{name}.{ending}", compile=False)
                found = model.predict(answers[f"{name}/input"], verbose=0)
                far = difference(found, answers[f"{name}/output"])
            except Exception as error:
                wrong.append(f"{name}.{ending} ({case['what']}): {str(error)[:1500]}")
                continue
            worst[ending] = max(worst[ending], far)
            if far > TOLERANCE:
                wrong.append(f"{name}.{ending} ({case['what']}): {far:.2e} from Rekindle")
        keras.backend.clear_session()
    return worst, wrong


def weights(keras, folder, cases):
    """Weights alone in Keras's own applications."""
    wrong, count = [], 0
    for case in (case for case in cases if "application" in case):
        name = case["name"]
        expected = None
        for ending in ["published.h5", "weights.h5"]:
            model = applications(keras, case)
            try:
                model.load_weights(folder / f"{name}.{ending}")
            except Exception as error:
                wrong.append(f"{name}.{ending}: {str(error)[:1500]}")
                continue
            whole = keras.models.load_model(folder / f"{name}.keras", compile=False)
            # What stands in front of the network has weights only where channels are in another order.
            theirs = [layer for layer in whole.layers if layer.name != "rgb_to_bgr"]
            theirs = [value for layer in theirs for value in layer.get_weights()]
            ours = model.get_weights()
            is_same = len(theirs) == len(ours) and all(
                np.array_equal(a.ravel(), b.ravel()) for a, b in zip(theirs, ours)
            )
            if not is_same:
                wrong.append(f"{name}.{ending}: other weights")
            found = model.predict(np.full((1, *case["size"], 3), 0.5, "float32"), verbose=0)
            expected = found if expected is None else expected
            if not np.array_equal(found, expected):
                wrong.append(f"{name}.{ending}: another answer than that of the other file")
            count += 1
        keras.backend.clear_session()
    return count, wrong


def main():
    folder = Path(sys.argv[1])
    # Keras walks a network layer by layer, within each other: one of the cases has 1,501.
    sys.setrecursionlimit(50_000)
    cases = json.loads((folder / "cases.json").read_text())
    wanted = sys.argv[2:]
    cases = [case for case in cases if not wanted or any(part in case["name"] for part in wanted)]
    answers = load_file(folder / "answers.safetensors")
    import keras
    import tf_keras

    failed = []
    for module, endings in [(keras, ["keras", "h5"]), (tf_keras, ["h5"])]:
        worst, wrong = predictions(module, folder, cases, answers, endings)
        failed += [f"{module.__name__}: {line}" for line in wrong]
        for ending, far in worst.items():
            count = sum(ending in case["endings"] for case in cases)
            print(f"{module.__name__} {module.__version__}: {count} .{ending}, at most {far:.1e}")
    count, wrong = weights(keras, folder, cases)
    failed += wrong
    print(f"keras.applications: {count} files of weights alone")
    print("\n".join(failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
