"""Writes tests/golden/onnx/: ONNX's own tests of the operators that image classifiers are made of, and whole networks.

Run from the repository root, in a venv with `pip install onnx onnxruntime safetensors`:
    python tests/keras/onnx_cases.py

nodes.safetensors.gz has tests of single operators: the package's node tests, its pytorch-operator and pytorch-converted
ones, and some of our own, which ONNX Runtime answers. Its tensors are NAME/model (the file's bytes), NAME/input and
NAME/output. Every model has one input and one output: what the tests feed beside the first input, as weights and
shapes, are constants in the models, as files have them. nodes.json says of each its operators, the version of the
operator set and the input's shape, and which tests are not here and why. A picture has 4 dimensions and a row of numbers
2; tests of elementwise operators with 1 or 3 have been given another of size 1, which `lifted` says.

light/NAME.onnx.gz are the package's nine light models, in which nearly every weight is 0.02, so that all classes come
out alike. light/NAME.filled.onnx.gz.gz are six of them with weights that tell classes apart: tables that repeat, and so
gzipped twice. light.safetensors.gz has what ONNX Runtime answers, NAME/output and, before the softmax, NAME/logits, to
the input x[i] = sin(0.01 i), i counting through [1, 3, 224, 224].

The package's tests and models are the ONNX project's, under the Apache License 2.0.
"""

import collections
import gzip
import json
import os
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.backend.test.loader import DATA_DIR, load_model_tests
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import save

sys.path.insert(0, os.path.dirname(__file__))
from formula import uniform

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "onnx")
ELEMENTWISE = set("""Add Sub Mul Div Neg Max Min Mean Sum Relu LeakyRelu PRelu Elu Selu Celu Gelu Softplus Softsign Tanh
    Sigmoid HardSigmoid HardSwish Mish Clip Identity Dropout Exp Sqrt Abs Pow Erf ThresholdedRelu Swish
    Constant""".split())
OPERATORS = ELEMENTWISE | set("""Conv ConvTranspose Gemm MatMul BatchNormalization Pad MaxPool AveragePool LRN
    GlobalAveragePool GlobalMaxPool Softmax LogSoftmax Concat Flatten Reshape Squeeze Unsqueeze Transpose ReduceMean
    ReduceMax Resize Upsample GroupNormalization LayerNormalization InstanceNormalization Cast QuantizeLinear
    DequantizeLinear""".split())
LARGEST = 20_000


def write(name, tensors, times=1):
    """A gzipped file, the same in every run: of safetensors if it is a dict."""
    data = tensors if isinstance(tensors, bytes) else save(tensors)
    for _ in range(times):
        data = gzip.compress(data, compresslevel=9, mtime=0)
    path = os.path.join(OUT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    print(f"{name:40} {len(data):>8} bytes")


def answer(model, inputs, outputs=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]).run(outputs,
        inputs)


# The tests of single operators.


def tests():
    """Name, model, inputs and outputs of every test."""
    yield from own()
    array = lambda value: np.asarray(value) if isinstance(value, np.generic) else value
    for case in sorted(load_model_tests(kind="node"), key=lambda case: case.name):
        yield case.name, case.model, *([array(value) for value in values] for values in case.data_sets[0])
    for kind in ("pytorch-operator", "pytorch-converted"):
        for case in sorted(load_model_tests(kind=kind), key=lambda case: case.name):
            folder = os.path.join(case.model_dir, "test_data_set_0")
            read = lambda what, count: [onnx.load_tensor(os.path.join(folder, f"{what}_{i}.pb")) for i in range(count)]
            model = onnx.load(os.path.join(case.model_dir, "model.onnx"))
            constants = {tensor.name for tensor in model.graph.initializer}
            count = sum(value.name not in constants for value in model.graph.input)
            inputs, outputs = read("input", count), read("output", len(model.graph.output))
            yield f"{kind}/{case.name}", model, *([numpy_helper.to_array(t) for t in tensors] for tensors in (inputs,
                outputs))


def own():
    """Over pictures, what the package tests over 3 dimensions alone, and the forms of earlier operator sets."""
    picture = (6.0 * uniform("picture", 2 * 4 * 6 * 5) - 3.0).astype(np.float32).reshape(2, 4, 6, 5)
    row = picture.reshape(2, 120)[:, :10].copy()
    four = lambda name, shape=(4,): (uniform(name, int(np.prod(shape))) + 0.5).astype(np.float32).reshape(shape)
    whole = lambda *values: np.array(values, np.int64)
    number = lambda value: np.array(value, np.float32)

    def case(opset, operator, *constants, x=picture, word="", **attributes):
        names = ["x"] + [f"c{i}" if value is not None else "" for i, value in enumerate(constants)]
        node = helper.make_node(operator, names, ["y"], **attributes)
        tensors = [numpy_helper.from_array(value, f"c{i}") for i, value in enumerate(constants) if value is not None]
        inputs = [helper.make_tensor_value_info("x", 1, x.shape)]
        if opset < 9:
            inputs += [helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors]
        graph = helper.make_graph([node], "own", inputs, [helper.make_tensor_value_info("y", 1, None)], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)],
                                  ir_version=3 if opset < 9 else 8, producer_name="rekindle")
        shown = lambda value: value.tolist() if value.dtype == np.int64 else "x".join(map(str,
            value.shape)) or f"{value:.2f}"
        said = [f"{key}={value}" for key, value in attributes.items()]
        said += [str(shown(value)) for value in constants if value is not None]
        return f"own/{operator} of {opset}: {', '.join(said)}{word}", model, [x], answer(model, {"x": x})

    for keepdims in (0, 1):
        for axes in ([2, 3], [-1, -2], [1]):
            for operator in ("ReduceMean", "ReduceMax"):
                yield case(11, operator, axes=axes, keepdims=keepdims)
                yield case(18, operator, whole(*axes), keepdims=keepdims)
    for shape in ((2, -1), (0, -1), (0, 0, 30), (-1, 120), (2, 4, 30, 1), (0, 2, 2, 6, 5)):
        yield case(8, "Reshape", whole(*shape))
        yield case(14, "Reshape", whole(*shape))
    for perm in ([0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2], [0, 3, 2, 1]):
        yield case(13, "Transpose", perm=perm)
    for opset in (9, 13):  # Up to 12 all dimensions from the axis on are one.
        for axis in (1, 2, 3) if opset == 9 else (1, 2, 3, -1):
            yield case(opset, "Softmax", axis=axis)
            yield case(opset, "LogSoftmax", axis=axis)
        yield case(opset, "Softmax")
        yield case(opset, "Softmax", x=row, word=", row")
    pooled = picture[:, :, :1, :1].copy()
    for opset in (11, 13):
        for operator, axes, x in (("Squeeze", [2, 3], pooled), ("Squeeze", [-1], pooled), ("Unsqueeze", [2, 3], row),
                                  ("Unsqueeze", [1], picture)):
            yield case(opset, operator, axes=axes, x=x) if opset == 11 else case(opset, operator, whole(*axes), x=x)
    for axis in (0, 1, 2, 3, 4):
        yield case(9, "Flatten", axis=axis)
    for axis in (1, 2, 3, -1):
        yield case(11, "Concat", picture[::-1].copy(), axis=axis)
    for shape in ((1,), (4, 1, 1), (1, 4, 1, 1), (4, 6, 5), (6, 1)):
        yield case(9, "PRelu", four("slope", shape))
    for shape in ((), (1,), (5,), (4, 1, 1), (1, 4, 1, 1), (1, 4, 6, 5), (2, 1, 1, 1)):
        for operator in ("Add", "Sub", "Mul", "Div"):
            yield case(7 if shape else 13, operator, four("operand", shape))
    pads = [0, 0, 1, 2, 0, 0, 3, 0]
    for mode in ("constant", "reflect", "edge"):
        yield case(2 + 7, "Pad", pads=pads, mode=mode)
        yield case(13, "Pad", whole(*pads), mode=mode)
    yield case(9, "Pad", pads=pads, value=1.5)
    yield case(13, "Pad", whole(*pads), number(1.5))
    yield case(18, "Pad", whole(1, 2, 3, 0), number(1.5), whole(2, 3))
    yield case(18, "Pad", whole(0, 0, -1, 0, 0, 0, 0, -2))
    yield case(9, "Clip", min=0.0, max=2.0)
    yield case(9, "Clip", min=0.5)
    yield case(13, "Clip", number(0.0), number(2.0))
    yield case(13, "Clip", None, number(1.0))
    yield case(9, "Dropout", ratio=0.4)
    yield case(13, "Dropout", number(0.4))
    for opset in (7, 9, 14, 15):
        yield case(opset, "BatchNormalization", *(four(name) for name in ("scale", "bias", "mean", "variance")),
                   epsilon=1e-3)
        yield case(opset, "BatchNormalization", *(four(name, (10,)) for name in ("scale", "bias", "mean", "variance")),
                   x=row, word=", row")
    kernel = four("kernel", (3, 4, 3, 3)) - np.float32(1.0)
    for settings in (dict(), dict(pads=[1, 1, 1, 1]), dict(pads=[0, 1, 2, 0]), dict(strides=[2, 1], pads=[1, 0, 1, 0]),
                     dict(dilations=[2, 1]),
                     dict(auto_pad="SAME_UPPER", strides=[2, 2]), dict(auto_pad="SAME_LOWER", strides=[2, 2]),
                     dict(auto_pad="VALID"), dict(kernel_shape=[3, 3], group=1)):
        yield case(11, "Conv", kernel, four("bias", (3,)), **settings)
    yield case(11, "Conv", four("grouped", (6, 2, 3, 3)), group=2)
    yield case(11, "Conv", four("depthwise", (8, 1, 3, 3)), four("bias", (8,)), group=4, pads=[1, 1, 1, 1])
    for operator in ("MaxPool", "AveragePool"):
        for settings in (dict(), dict(strides=[2, 2]), dict(strides=[2, 2], pads=[1, 1, 1, 1]),
                         dict(strides=[2, 3], pads=[0, 0, 1, 1]), dict(strides=[2, 2], ceil_mode=1),
                         dict(strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
                         dict(strides=[2, 2], auto_pad="SAME_UPPER"), dict(strides=[2, 2], auto_pad="SAME_LOWER")):
            yield case(11, operator, kernel_shape=[3, 3], **settings)
    for opset in (11, 19):
        yield case(opset, "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
        yield case(opset, "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1,
                   ceil_mode=1)
    yield case(11, "MaxPool", kernel_shape=[2, 2], dilations=[2, 2])
    yield case(19, "AveragePool", kernel_shape=[2, 2], dilations=[2, 2])
    matrix = four("matrix", (10, 3))
    yield case(11, "Gemm", matrix, four("bias", (3,)), x=row)
    yield case(11, "Gemm", matrix, x=row)
    yield case(11, "Gemm", matrix.T.copy(), four("bias", (1, 3)), transB=1, x=row)
    yield case(11, "Gemm", matrix, number(0.5), alpha=0.5, beta=2.0, x=row)
    yield case(11, "Gemm", four("matrix", (2, 3)), transA=1, x=row)
    yield case(9, "MatMul", matrix, x=row)
    yield case(9, "MatMul", four("matrix", (5, 3)))
    for mode in ("nearest", "linear"):
        yield case(9, "Upsample", np.array([1, 1, 2, 3], np.float32), mode=mode)
        yield case(10, "Resize", np.array([1, 1, 2, 3], np.float32), mode=mode, word=", larger")
        yield case(10, "Resize", np.array([1, 1, 0.5, 0.6], np.float32), mode=mode, word=", smaller")
    for way in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        for mode in ("nearest", "linear", "cubic"):
            for size in ((2, 4, 9, 11), (2, 4, 3, 4)):
                yield case(13, "Resize", None, None, whole(*size), mode=mode, coordinate_transformation_mode=way)
    yield case(13, "LRN", size=3, alpha=0.1, beta=0.5, bias=2.0)
    yield case(13, "LRN", size=5, alpha=0.1)
    yield case(9, "InstanceNormalization", four("scale"), four("bias"), epsilon=1e-3)
    yield case(17, "LayerNormalization", four("scale", (5,)), four("bias", (5,)))
    yield case(17, "LayerNormalization", four("scale", (4, 6, 5)), axis=1, epsilon=1e-3)
    yield case(21, "GroupNormalization", four("scale"), four("bias"), num_groups=2)
    for operator in ("GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Elu",
                     "Selu", "Celu", "ThresholdedRelu", "Erf", "Mish"):
        yield case(18, operator)
    yield case(20, "Gelu")
    yield case(20, "Gelu", approximate="tanh")
    yield case(9, "HardSigmoid", alpha=1 / 6, beta=0.5)
    yield case(9, "LeakyRelu", alpha=0.2)


def lifted(value):
    """[n] as [1, n], [a, b, c] as [a, b, c, 1]: what elementwise operators do stays the same."""
    return value[None] if value.ndim == 1 else value[..., None] if value.ndim == 3 else value


def single(model, inputs, outputs):
    """The model with one input, whether it had to be lifted, or the reason why it is not of interest."""
    operators = {node.op_type for node in model.graph.node}
    if not operators <= OPERATORS or any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
        return None, "other operators"
    if len(model.graph.node) == 1 and operators <= {"LayerNormalization", "MaxPool"}:
        outputs = outputs[:1]  # The others are for training.
    if len(outputs) != 1:
        return None, "more outputs than one"
    if not inputs:
        return None, "no input"
    if not all(isinstance(value, np.ndarray) for value in [*inputs, *outputs]):
        return None, "sequences, and numbers that numpy has not"
    if inputs[0].dtype != np.float32 or outputs[0].dtype != np.float32:
        return None, "numbers that are not f32"
    if max(value.size for value in [*inputs, *outputs]) > LARGEST:
        return None, "tensors too large"
    rank = inputs[0].ndim
    alike = all(value.ndim in (0, rank) for value in inputs) and outputs[0].ndim == rank
    lift = rank in (1, 3) and operators <= ELEMENTWISE and alike
    if rank not in (2, 4) and not lift:
        return None, f"a first input of {rank} dimensions"
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    fed = [value.name for value in graph.input if value.name not in constants]
    if len(graph.node) == 1:
        del graph.node[0].output[1:]
    if lift:
        if constants or any(node.op_type == "Constant" for node in graph.node):
            return None, f"a first input of {rank} dimensions"
        inputs, outputs = [lifted(value) for value in inputs], [lifted(value) for value in outputs]
    for name, value in zip(fed[1:], inputs[1:]):
        graph.initializer.append(numpy_helper.from_array(value, name))
    # Operator sets since 2018 want no constants among inputs; the files of before have them there, and keep them.
    described = helper.make_tensor_value_info
    kept = [value for value in graph.input if value.name in constants]
    kept.insert(0, described(fed[0], 1, inputs[0].shape))
    if model.ir_version < 4:
        for name, value in zip(fed[1:], inputs[1:]):
            kept.append(described(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
    output = described(graph.output[0].name, 1, outputs[0].shape)
    del graph.input[:], graph.output[:]
    graph.input.extend(kept)
    graph.output.append(output)
    return (model, inputs[0], outputs[0], lift), None


def agrees(model, value, expected):
    """Whether the test still says what it said, by ONNX Runtime or, of what it has not, by ONNX's own reference."""
    feed = {model.graph.input[0].name: value}
    try:
        got = answer(model, feed)[0]
    except Exception:  # ONNX Runtime raises a class of its own for each status.
        got = ReferenceEvaluator(model).run(None, feed)[0]
    return got.shape == expected.shape and np.allclose(got, expected, rtol=1e-3, atol=1e-5)


def nodes():
    tensors, cases, left_out, done = {}, [], collections.defaultdict(list), collections.Counter()
    for name, model, inputs, outputs in tests():
        found, reason = single(model, inputs, outputs)
        if reason:
            left_out[reason].append(name)
            continue
        model, value, expected, lift = found
        if not agrees(model, value, expected):
            left_out["ONNX Runtime answers otherwise"].append(name)
            continue
        tensors[f"{name}/model"] = np.frombuffer(model.SerializeToString(), np.uint8)
        tensors[f"{name}/input"], tensors[f"{name}/output"] = np.array(value, order="C"), np.array(expected, order="C")
        operators = [node.op_type for node in model.graph.node]
        done.update(set(operators))
        opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        cases.append({"name": name, "operators": operators, "opset": opset, "input": list(value.shape), "lifted": lift})
    write("nodes.safetensors.gz", tensors)
    with open(os.path.join(OUT, "nodes.json"), "w") as file:
        lines = ",\n".join(json.dumps(case) for case in cases)
        counts = {reason: len(names) for reason, names in left_out.items()}
        del left_out["other operators"]
        reasons = ",\n".join(f"{json.dumps(reason)}: {json.dumps(names)}" for reason, names in left_out.items())
        file.write(f'{{"onnx": "{onnx.__version__}",\n"cases": [\n{lines}\n],\n')
        file.write(f'"left_out_counts": {json.dumps(counts)},\n"left_out": {{\n{reasons}\n}}}}\n')
    print(len(cases), "cases;", dict(done), "left out:", counts)


# The light models.

FILLED = ("squeezenet", "inception_v1", "inception_v2", "shufflenet", "densenet121", "resnet50")
PERIOD = 61


def table(name, shape, centre, width):
    values = uniform(name, PERIOD) * 2.0 - 1.0
    values = np.resize(values - values.mean(), int(np.prod(shape)))
    return short((centre + width * values).reshape(shape))


def short(values):
    """As bfloat16 has them, whose other half is zeros and is packed well."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return (bits + np.uint32(0x8000) & np.uint32(0xFFFF0000)).view(np.float32)


def filled(model, picture):
    """The model with weights for ConstantOfShape: He's for kernels, and normalizations that know this picture."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    sources = {node.output[0]: known[node.input[0]] for node in graph.node if node.op_type == "ConstantOfShape"}
    shapes = {**{name: value.shape for name, value in known.items()},
              **{name: tuple(shape) for name, shape in sources.items()}}
    # Through the Unsqueeze of the factors and terms that follow a normalization, and the Reshape of a matrix.
    of = {node.output[0]: node.input[0] for node in graph.node if node.op_type in ("Unsqueeze",
        "Reshape") and node.input[0] in shapes}
    weights, norms, gone = {}, [], {node.input[0] for node in graph.node if node.op_type == "ConstantOfShape"}
    for node in graph.node:
        names = [of.get(name, name) for name in node.input]
        if node.op_type in ("Conv", "Gemm"):
            shape = shapes[names[1]]
            weights[names[1]] = table(names[1], shape, 0.0,
                                      np.sqrt((6.0 if node.op_type == "Conv" else 3.0) / np.prod(shape[1:])))
            if len(names) > 2:
                weights[names[2]] = table(names[2], shapes[names[2]], 0.0, 0.05)
            last = node
        elif node.op_type == "BatchNormalization":
            norms.append(node)
            weights[names[1]] = table(names[1], shapes[names[1]], 1.0, 0.25)
            weights[names[2]] = table(names[2], shapes[names[2]], 0.0, 0.25)
        elif node.op_type in ("Mul", "Add") and names[1] in shapes:
            weights[names[1]] = table(names[1], shapes[names[1]],
                                      *((1.0, 0.25) if node.op_type == "Mul" else (0.0, 0.25)))
    statistics = settled(model, weights, norms, shapes, gone, picture)
    weights.update(statistics)
    complete(graph, weights, gone)
    logits = answer(with_outputs(model, [last.output[0]]), {picture[0]: picture[1]}, [last.output[0]])[0]
    logits = logits.reshape(logits.shape[:2] + (-1,)).mean(-1)
    for tensor in graph.initializer:
        if tensor.name in [of.get(name, name) for name in last.input]:
            tensor.CopyFrom(numpy_helper.from_array(short(numpy_helper.to_array(tensor) * (1.5 / logits.std())),
                tensor.name))
    return model


def complete(graph, weights, gone):
    """Constants for nodes that made them, among the inputs too, where files of that age have them."""
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    initializers = [tensor for tensor in graph.initializer if tensor.name not in gone and tensor.name not in weights]
    inputs = [value for value in graph.input if value.name not in gone and value.name not in weights]
    for name, value in weights.items():
        initializers.append(numpy_helper.from_array(value, name))
        inputs.append(helper.make_tensor_value_info(name, 1, value.shape))
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    graph.input.extend(inputs)


def with_outputs(model, names):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names if name not in present)
    return model


def settled(model, weights, norms, shapes, gone, picture):
    """The statistics of every normalization: of all that comes to it at this picture, and around that a table's."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph, weights = model.graph, dict(weights)
    nodes, wanted, found = [], [], {}
    make = helper.make_node
    for node in graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        x, scale, bias, mean, variance = node.input
        channel = (1, *shapes[scale], 1, 1)
        epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        n = node.output[0] + "/settle/"
        weights |= {
            n + "around": table(mean, channel, 0.0, 0.2), n + "wide": table(variance, channel, 1.0, 0.25),
            n + "epsilon": np.array([epsilon], np.float32),
            n + "scale": weights[scale].reshape(channel), n + "bias": weights[bias].reshape(channel)}
        nodes += [
            make("ReduceMean", [x], [n + "mean"]), make("Sub", [x, n + "mean"], [n + "d"]),
            make("Mul", [n + "d", n + "d"], [n + "q"]),
            make("ReduceMean", [n + "q"], [n + "v"]), make("Sqrt", [n + "v"], [n + "s"]),
            make("Mul", [n + "s", n + "around"], [n + "shift"]),
            make("Add", [n + "mean", n + "shift"], [n + "m"]), make("Mul", [n + "v", n + "wide"], [n + "vs"]),
            make("Add", [n + "vs", n + "epsilon"], [n + "e"]),
            make("Sqrt", [n + "e"], [n + "r"]), make("Sub", [x, n + "m"], [n + "c"]),
            make("Div", [n + "c", n + "r"], [n + "n"]),
            make("Mul", [n + "n", n + "scale"], [n + "f"]), make("Add", [n + "f", n + "bias"], [node.output[0]])]
        wanted += [(mean, n + "m"), (variance, n + "vs")]
    if not wanted:
        return {}
    del graph.node[:]
    graph.node.extend(nodes)
    # What has been replaced has no statistics to be fed.
    names = {name for name, _ in wanted}
    complete(graph, weights, gone | {name for name in names if name in {tensor.name for tensor in graph.initializer}})
    for (name, _), value in zip(wanted, answer(with_outputs(model, [n for _, n in wanted]), {picture[0]: picture[1]},
        [n for _, n in wanted])):
        found[name] = short(value.reshape(-1))
    return found


def light():
    tensors = {}
    folder = os.path.join(DATA_DIR, "light")
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".onnx"):
            continue
        name = file.removeprefix("light_").removesuffix(".onnx")
        model = onnx.load(os.path.join(folder, file))
        constants = {tensor.name for tensor in model.graph.initializer}
        feed = next(value.name for value in model.graph.input if value.name not in constants)
        picture = (feed, np.sin(0.01 * np.arange(3 * 224 * 224)).astype(np.float32).reshape(1, 3, 224, 224))
        made = [(name, model, f"light/{name}.onnx.gz", 1)]
        if name in FILLED:
            made.append((f"{name}.filled", filled(model, picture), f"light/{name}.filled.onnx.gz.gz", 2))
        for key, network, path, times in made:
            write(path, network.SerializeToString(), times)
            last = network.graph.node[-1]
            names = [last.output[0]] + ([last.input[0]] if last.op_type == "Softmax" else [])
            output, *logits = answer(with_outputs(network, names), {feed: picture[1]}, names)
            tensors[f"{key}/output"] = output
            tensors.update({f"{key}/logits": value for value in logits})
            print("    " + ", ".join(f"{value.min():.3g} to {value.max():.3g}" for value in [output, *logits]))
    write("light.safetensors.gz", tensors)


def main():
    os.makedirs(OUT, exist_ok=True)
    nodes()
    light()


if __name__ == "__main__":
    main()
