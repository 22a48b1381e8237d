"""Runs the TensorFlow Lite files that Rekindle writes in TensorFlow's interpreter, and compares with Rekindle's own answers.

The files come from the tests of rekindle-weights:

    REKINDLE_WRITE_TFLITE=/some/folder cargo test -p rekindle-weights --lib written
    python tests/keras/export_tflite.py /some/folder [PHOTOS]

Each is run on the inputs beside it, in batches of 2, by resizing the input, and of 1, as it is; with XNNPACK, as programs run
it, and without. With PHOTOS, a folder of photos, files of networks are also run on these: all ways have to agree. Files of
halves end in `.half.tflite`.
"""

import json
import os
import sys
import zipfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from PIL import Image
from safetensors import safe_open
from tensorflow.lite.python import schema_py_generated as schema

TOLERANCE = 1e-5
HALF = 1e-2


def interpreters(path):
    yield tf.lite.Interpreter(str(path))
    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    yield tf.lite.Interpreter(str(path), experimental_op_resolver_type=plain)


def run(interpreter, images):
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert source["shape_signature"][0] == -1 and list(source["shape_signature"][1:]) == list(images.shape[1:]), source
    interpreter.resize_tensor_input(source["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], images)
    interpreter.invoke()
    found = interpreter.get_tensor(target["index"])
    assert found.dtype == np.float32 and target["shape_signature"][0] == -1, target
    assert list(found.shape[1:]) == list(target["shape_signature"][1:]), (found.shape, target)
    return found.reshape(len(images), -1)


def metadata(path):
    """What is said beside the graph, and sees that the file is what it says."""
    data = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    entries = {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata}
    card = json.loads(entries["rekindle"])
    assert entries["TFLITE_METADATA"][4:8] == b"M001", path
    if card.get("classes"):
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt").decode().split("\n")[:-1] == card["classes"], path
    # Constants are aligned, as the schema demands.
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data):
            values = bytes(buffer.data[:64])
            assert any(at % 16 == 0 for at in places(data, values)), f"{path}: a buffer that is not aligned"


def places(data, values):
    at = data.find(values)
    while at >= 0:
        yield at
        at = data.find(values, at + 1)


def check(path, photos):
    """The largest difference, as a share of the largest value, and whether the file holds halves."""
    half = path.name.endswith(".half.tflite")
    metadata(path)
    with safe_open(path.with_name(path.name.replace(".half", "")).with_suffix(".safetensors"), "np") as file:
        images, expected = file.get_tensor("input"), file.get_tensor("output")
        name = file.metadata()["name"]
    worst, answers = 0.0, []
    for interpreter in interpreters(path):
        single = interpreter.get_input_details()[0]["shape"]
        assert single[0] == 1, path
        images = np.ascontiguousarray(images.reshape(2, *single[1:]))
        found = run(interpreter, images)
        largest = max(1.0, np.abs(expected).max())
        one = run(interpreter, images[:1])
        assert np.abs(one[0] - found[0]).max() / largest < TOLERANCE, f"{path}: one image"
        worst = max(worst, float(np.abs(found - expected).max() / largest))
        if photos:
            size = (int(single[2]), int(single[1]))
            pixels = [np.asarray(photo.resize(size), np.float32) for photo in photos]
            answers.append(run(interpreter, np.stack(pixels)))
    for answer in answers[1:]:
        worst = max(worst, float(np.abs(answer - answers[0]).max()))
    return worst, half, name


def main():
    folder = Path(sys.argv[1])
    files = sorted(Path(sys.argv[2]).rglob("*.jpg"))[:4] if len(sys.argv) > 2 else []
    photos = [Image.open(file).convert("RGB") for file in files]
    kinds = ("operations", "networks", "halves")
    wrong, worst, count = [], dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0)
    for path in sorted(folder.glob("*.tflite")):
        is_network = not path.name.startswith("op_")
        try:
            difference, half, name = check(path, photos if is_network else [])
        except Exception as error:  # noqa: BLE001, every file's is listed
            wrong.append(f"{path.name}: {str(error)[:400]}")
            continue
        kind = "halves" if half else "networks" if is_network else "operations"
        count[kind] += 1
        worst[kind] = max(worst[kind], difference)
        if not difference <= (HALF if half else TOLERANCE):
            wrong.append(f"{path.name}: {difference:.1e}: {name[:300]}")
    print(f"TensorFlow {tf.__version__}")
    for kind, files in count.items():
        print(f"{files} {kind}, at most {worst[kind]:.1e} apart")
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
