"""Runs the ONNX files that Rekindle writes in ONNX Runtime, and compares with Rekindle's own answers.

The files come from the tests of rekindle-weights:

    REKINDLE_WRITE_ONNX=/some/folder cargo test -p rekindle-weights --lib onnx::written
    python tests/keras/export_onnx.py /some/folder

Each is seen by onnx.checker with full shape inference, which has to find the shapes that the file says, and is run on the
inputs beside it, in batches of 2 and of 1. Files of halves end in `.half.onnx`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors import safe_open

TOLERANCE = 1e-5
HALF = 1e-2


def shape(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def check(path):
    """The largest difference, as a share of the largest value, and whether the file holds halves."""
    half = path.name.endswith(".half.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path))
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    output = inferred.graph.output[0]
    assert shape(output) == shape(model.graph.output[0]), f"{path}: {shape(output)}"
    assert shape(output)[0] == "batch" and 0 not in shape(output), f"{path}: {shape(output)}"
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names), path
    assert model.ir_version == 8 and model.opset_import[0].version == 17, path
    json.loads({entry.key: entry.value for entry in model.metadata_props}["rekindle"])

    with safe_open(path.with_name(path.name.replace(".half", "")).with_suffix(".safetensors"), "np") as file:
        images, expected = file.get_tensor("input"), file.get_tensor("output")
        name = file.metadata()["name"]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    extents = source.shape[1:]
    # Inputs are kept in Keras's order of axes, and so are answers.
    if path.with_suffix(".first").exists():
        channels, height, width = extents
        images = images.reshape(2, height, width, channels).transpose(0, 3, 1, 2)
    images = np.ascontiguousarray(images.reshape(2, *extents))
    found = session.run(None, {source.name: images})[0]
    single = session.run(None, {source.name: images[:1]})[0]
    assert found.dtype == np.float32 and list(found.shape[1:]) == shape(output)[1:], path
    largest = max(1.0, np.abs(expected).max())
    assert np.abs(single[0] - found[0]).max() / largest < (HALF if half else TOLERANCE), f"{path}: one image"
    if path.with_suffix(".first").exists() and found.ndim == 4:
        found = found.transpose(0, 2, 3, 1)
    difference = np.abs(found.reshape(2, -1) - expected).max() / largest
    return float(difference), half, name


def main():
    folder = Path(sys.argv[1])
    wrong, worst, count = [], {"operations": 0.0, "networks": 0.0, "halves": 0.0}, dict.fromkeys(("operations", "networks", "halves"), 0)
    for path in sorted(folder.glob("*.onnx")):
        try:
            difference, half, name = check(path)
        except Exception as error:  # noqa: BLE001, every file's is listed
            wrong.append(f"{path.name}: {str(error)[:400]}")
            continue
        kind = "halves" if half else "operations" if path.name.startswith("op_") else "networks"
        count[kind] += 1
        worst[kind] = max(worst[kind], difference)
        if not difference <= (HALF if half else TOLERANCE):
            wrong.append(f"{path.name}: {difference:.1e}: {name[:300]}")
    print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}")
    for kind, files in count.items():
        print(f"{files} {kind}, at most {worst[kind]:.1e} apart")
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
