"""Runs training beside Keras on the CPU, alternately, and prints medians and ratios: single steps with some of the
network's layers trainable, and the whole of the tutorial's program.

From the repository root:
    python3 -m venv .venv && .venv/bin/pip install tensorflow-cpu pillow
    cargo build --release -p rekindle-cli -p rekindle-benches
    .venv/bin/python benches/peers/train.py [--rounds 3] [--only steps|fit] [--json FILE]

Steps: batches of 32 at 160 pixels, pooling, Dropout(0.2), Dense(2), Adam. Ours start behind the layers that are frozen,
whose results are computed once; Keras runs these in every step. The whole program: InceptionV3 and MobileNetV2 at 160
pixels, frozen, Flatten, Dense(512), Dropout(0.5), Dense, 10 epochs of batches of 32 on the demo photos, which are
copied until there are 241 of them, 193 to train on; weights are random, since neither looks at values.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
RELEASE = os.path.join(ROOT, "target", "release")
STEPS = [("mobilenet-v2", "0", 20), ("mobilenet-v2", "30", 10), ("mobilenet-v2", "all", 5), ("inception-v3", "all", 2)]


def keras_step(name, last, steps):
    """In a process of its own, for its memory."""
    import resource

    import keras
    import numpy as np

    builders = {"mobilenet-v2": keras.applications.MobileNetV2, "inception-v3": keras.applications.InceptionV3}
    base = builders[name](input_shape=(160, 160, 3), include_top=False, weights=None)
    base.trainable = last != "0"
    if last not in ("0", "all"):
        for layer in base.layers[:-int(last)]:
            layer.trainable = False
    x = keras.Input((160, 160, 3))
    y = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(base(x, training=False)))
    model = keras.Model(x, keras.layers.Dense(2, activation="softmax")(y))
    model.compile(keras.optimizers.Adam(1e-5), "categorical_crossentropy")
    images = np.random.default_rng(0).uniform(-1, 1, (32, 160, 160, 3)).astype(np.float32)
    labels = np.eye(2, dtype=np.float32)[np.arange(32) % 2]
    for step in range(steps + 2):
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        if step > 1:
            print((time.perf_counter() - start) * 1e3)
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def keras_fit(name, folder):
    import keras

    builders = {"mobilenet-v2": keras.applications.MobileNetV2, "inception-v3": keras.applications.InceptionV3}
    start = time.perf_counter()
    data = lambda subset: keras.utils.image_dataset_from_directory(
        folder, label_mode="categorical", image_size=(160, 160), batch_size=32, validation_split=0.2, subset=subset,
        seed=0, verbose=False).map(lambda x, y: (x / 127.5 - 1.0, y)).cache().prefetch(2)
    base = builders[name](input_shape=(160, 160, 3), include_top=False, weights=None)
    base.trainable = False
    L = keras.layers
    x = keras.Input((160, 160, 3))
    y = L.Dropout(0.5)(L.Dense(512, activation="relu")(L.Flatten()(base(x, training=False))))
    model = keras.Model(x, L.Dense(5, activation="softmax")(y))
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.fit(data("training"), validation_data=data("validation"), epochs=10, verbose=0)
    print(time.perf_counter() - start)


def run(command):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment).stdout


def copies(folder, count):
    """The demo photos, again and again under other names."""
    source = os.path.join(ROOT, "demo", "photos")
    files = sorted((c, f) for c in os.listdir(source) for f in os.listdir(os.path.join(source, c)))
    for number in range(count):
        category, file = files[number % len(files)]
        os.makedirs(os.path.join(folder, category), exist_ok=True)
        shutil.copy(os.path.join(source, category, file), os.path.join(folder, category, f"{number}-{file}"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--json")
    parser.add_argument("--keras", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.keras:
        kind, *rest = args.keras
        return keras_step(rest[0], rest[1], int(rest[2])) if kind == "step" else keras_fit(*rest)
    rows = []

    def compare(name, ours, theirs, unit):
        mine, keras, peaks = [], [], [[], []]
        for _ in range(args.rounds):
            for command, times, peak in ((ours, mine, peaks[0]), (theirs, keras, peaks[1])):
                # Keras says more than numbers.
                for words in map(str.split, run(command).splitlines()):
                    if words and words[-1].replace(".", "", 1).isdigit():
                        (peak if words[0] == "peak" else times).append(float(words[-1]))
        a, b = statistics.median(mine), statistics.median(keras)
        row = {"case": name, "ours": a, "keras": b, "unit": unit, "ours / keras": a / b}
        if peaks[0] and peaks[1]:
            row["ours MB"], row["keras MB"] = max(peaks[0]), max(peaks[1])
        rows.append(row)
        print("  ".join(f"{k}: {v:.3g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items()), flush=True)

    me = [sys.executable, os.path.abspath(__file__), "--keras"]
    if args.only in ("", "steps"):
        for name, last, steps in STEPS:
            label = {"0": "head only", "all": "all layers"}.get(last, f"last {last} layers")
            compare(f"{name} 160, {label}", [os.path.join(RELEASE, "step"), name, "160", "32", last, str(steps)],
                    me + ["step", name, last, str(steps)], "ms a step")
    if args.only in ("", "fit"):
        with tempfile.TemporaryDirectory() as folder:
            photos = os.path.join(folder, "photos")
            copies(photos, 241)
            for name in ("inception-v3", "mobilenet-v2"):
                weights = os.path.join(folder, name + ".h5")
                subprocess.run([sys.executable, "-c", f"""
import keras
b = {{"mobilenet-v2": keras.applications.MobileNetV2, "inception-v3": keras.applications.InceptionV3}}
b[{name!r}](input_shape=(160, 160, 3), include_top=False, weights=None).save_weights({weights[:-3] + '.weights.h5'!r})
"""], check=True, stderr=subprocess.DEVNULL)
                weights = weights[:-3] + ".weights.h5"
                ours = [os.path.join(RELEASE, "rekindle"), "train", photos, "--base", name, "--weights", weights, "--size",
                        "160", "--head", "flatten-512", "--epochs", "10", "--resize", "tf-bilinear", "--plain", "--out",
                        os.path.join(folder, "m.rekindle"), "--report", os.path.join(folder, "r.json")]
                timed = [sys.executable, "-c", "import subprocess,sys,time\ns=time.perf_counter()\nsubprocess.run(sys.argv[1:],"
                         "check=True,stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)\nprint(time.perf_counter()-s)"]
                compare(f"{name} 160, Flatten, Dense(512), 10 epochs", timed + ours, me + ["fit", name, photos], "s in all")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
