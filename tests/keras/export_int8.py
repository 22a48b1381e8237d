"""Runs the int8 files that `rekindle export` writes of quantized models in ONNX Runtime and in TensorFlow's Lite interpreter, and
compares with the answers of Rekindle's own int8 engine.

    python tests/keras/export_int8.py REKINDLE PHOTOS MODEL.rekindle ...

REKINDLE is the command. Of each model: the share of photos with the same best class and the most that a probability is off by,
whether the file passes onnx.checker, and how many products ONNX Runtime and TensorFlow Lite compute in integers and in float32.
ONNX Runtime on a processor without VNNI needs `session.x64quantprecision`, which is set here.
"""

import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from PIL import Image

PRODUCTS = ("Conv", "Gemm", "MatMul")


def rekindle(command, *arguments):
    done = subprocess.run([command, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def images(files, size):
    photos = (Image.open(file).convert("RGB").resize(size, Image.Resampling.BILINEAR) for file in files)
    return [np.asarray(photo, np.float32)[None] for photo in photos]


def by_onnx(path, files):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.optimized_model_filepath = str(path) + ".optimized"
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = collections.Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    found = session.get_inputs()[0]
    _, height, width, _ = found.shape
    answers = [session.run(None, {found.name: image})[0][0] for image in images(files, (width, height))]
    return np.stack(answers), kinds


def by_tflite(path, files):
    answers = []
    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    reference = tf.lite.experimental.OpResolverType.BUILTIN_REF
    for resolver in (None, plain, reference):
        settings = {} if resolver is None else {"experimental_op_resolver_type": resolver}
        interpreter = tf.lite.Interpreter(str(path), **settings)
        interpreter.allocate_tensors()
        (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
        _, height, width, _ = source["shape"]
        own = []
        # The reference kernels are slow: a few photos do.
        for image in images(files if resolver is not reference else files[:4], (width, height)):
            interpreter.set_tensor(source["index"], image)
            interpreter.invoke()
            own.append(interpreter.get_tensor(target["index"])[0].copy())
        answers.append(np.stack(own))
    types = {detail["index"]: detail["dtype"] for detail in interpreter.get_tensor_details()}
    kinds = collections.Counter(
        (op["op_name"], np.dtype(types[op["outputs"][0]]).name) for op in interpreter._get_ops_details()
    )
    return answers, kinds


def compared(found, expected):
    same = (found.argmax(1) == expected.argmax(1)).mean()
    off = np.abs(found - expected)
    return f"same best class on {same:.1%} of {len(found)}, off by {off.mean():.6f} on average, {off.max():.4f} at most"


def main():
    command, folder, models = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    files = sorted(folder.rglob("*.jpg"))
    print(f"ONNX Runtime {onnxruntime.__version__}, TensorFlow {tf.__version__}, {len(files)} photos")
    wrong = False
    for model in models:
        rows = json.loads(rekindle(command, "predict", model, *files, "--json", "--top", "100000"))
        classes = None
        print(model)
        with tempfile.TemporaryDirectory() as temporary:
            out = Path(temporary) / "model.onnx"
            rekindle(command, "export", model, out)
            metadata = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
            classes = json.loads(metadata["classes"])
            by_class = [{one["class"]: one["probability"] for one in row["predictions"]} for row in rows]
            expected = np.array([[row[name] for name in classes] for row in by_class], np.float32)
            found, kinds = by_onnx(out, files)
            print(f"  ONNX, {out.stat().st_size} bytes: {compared(found, expected)}")
            print("   ", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
            wrong |= (found.argmax(1) != expected.argmax(1)).any()
            out = Path(temporary) / "model.tflite"
            rekindle(command, "export", model, out)
            answers, kinds = by_tflite(out, files)
            for name, found in zip(("XNNPACK", "builtin", "reference"), answers):
                print(f"  TensorFlow Lite, {name}, {out.stat().st_size} bytes: {compared(found, expected[: len(found)])}")
                wrong |= (found.argmax(1) != expected[: len(found)].argmax(1)).any()
            print("   ", ", ".join(f"{count} {kind} {dtype}" for (kind, dtype), count in sorted(kinds.items())))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
