"""Runs our CPU engine, ONNX Runtime and Keras alternately on the same networks and prints medians and ratios.

From the repository root:
    python3 -m venv .venv && .venv/bin/pip install tensorflow-cpu onnxruntime tf2onnx
    cargo build --release -p rekindle-benches -p weights-convert
    .venv/bin/python benches/peers/compare.py [--threads 2] [--rounds 5] [--json FILE]
    .venv/bin/python benches/peers/compare.py --zoo [--only resnet,vgg] [--models FOLDER] [--without-keras]
    .venv/bin/python benches/peers/compare.py --int8 [--only resnet-50] [--processor-time]
    .venv/bin/python benches/peers/compare.py --memory

All have the same number of threads and float32. Networks have no top and random weights: neither engine
looks at values. Where the processor has AVX-512 BF16, InceptionV3 is run with Precision::Bf16 too. `--zoo` takes
every network of Keras Applications at its default size, one image and 8 (MobileNets 32). `--models` keeps the ONNX files
that tf2onnx writes in a folder, so that a second run does not need TensorFlow for them. `--int8` compares products of
bytes: ours, and ONNX Runtime's static quantization (QDQ, a scale for each channel of the weights), each beside its own
f32; `--processor-time` has one thread each and counts the time of the processor, for a machine that others use too.
`--memory` prints the
peak memory of MobileNetV2 224 at batch 32, ours and ONNX Runtime's, each in a process of its own.
"""

import argparse
import json
import os
import statistics
import resource
import subprocess
import sys
import tempfile
import time

CASES = [
    ("mobilenet-v2", 224, 1, 20), ("mobilenet-v2", 224, 32, 4), ("mobilenet-v2", 160, 1, 20), ("mobilenet-v2", 160, 32, 6),
    ("inception-v3", 299, 1, 8), ("inception-v3", 299, 8, 4), ("inception-v3", 160, 1, 15), ("inception-v3", 160, 8, 10),
]
INT8_CASES = [
    (name, size, batch, runs)
    for name, size in [("resnet-50", 224), ("inception-v3", 299), ("mobilenet-v2", 224)]
    for batch, runs in [(1, 15), (8, 5)]
]
REPOSITORY = os.path.join(os.path.dirname(__file__), "..", "..")
APPLICATIONS = os.path.join(REPOSITORY, "tests", "golden", "applications", "applications.json")
RELEASE = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(REPOSITORY, "target")), "release")
PLAN = os.path.join(RELEASE, "plan")


def zoo(networks):
    """Every network at its default size, those with fewer runs that take longer."""
    with open(APPLICATIONS) as file:
        known = json.load(file)
    for name in networks:
        size = known[name]["networks"][0]["size"] or 224
        batch = 32 if name.startswith("mobilenet") else 8
        yield name, size, 1, 8
        yield name, size, batch, 2


ONNX_MEMORY = """
import sys
import numpy as np
import onnxruntime
# Not getrusage's: that one begins with what the parent had.
peak = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
images = np.zeros((32, 224, 224, 3), np.float32)
before = peak()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
for _ in range(3):
    session.run(None, {session.get_inputs()[0].name: images})
print(before, peak())
"""


def export(model, size, path=None):
    import tensorflow as tf
    import tf2onnx

    path = path or os.path.join(tempfile.mkdtemp(), "model.onnx")
    call = tf.function(lambda x: model(x, training=False))
    try:
        model_proto, _ = tf2onnx.convert.from_function(
            call, [tf.TensorSpec((None, size, size, 3), tf.float32)], opset=17, output_path=path)
        names = [value.name for value in model_proto.graph.input]
        # EfficientNet's normalization.
        reason = f"makes inputs of constants: {', '.join(names[1:])}" if len(names) > 1 else None
    except ValueError as error:
        # Its optimizer of transpositions fails where a scalar is added, as in MobileNetV3's hard swish.
        reason = f"fails: {error}"
    if reason:
        print(f"{model.name}: tf2onnx {reason}; ONNX Runtime gets the file that Rekindle exports", file=sys.stderr)
        keras_file = os.path.join(tempfile.mkdtemp(), "model.keras")
        model.save(keras_file)
        # What is inside the network of its preprocessing stays; nothing is put in front of it.
        subprocess.run([os.path.join(RELEASE, "weights-convert"), "convert", keras_file, path], check=True)
    return path, call


def peers(name, size, models, with_keras):
    """The network's ONNX file, and Keras's function where it is asked for."""
    kept = models and os.path.join(models, f"{name}-{size}.onnx")
    if kept and os.path.exists(kept) and not with_keras:
        return kept, None
    import keras
    import tensorflow as tf

    sys.path.insert(0, os.path.join(REPOSITORY, "tests", "keras"))
    from applications import NETWORKS

    keras.backend.clear_session()
    model = NETWORKS[name][0](input_shape=(size, size, 3), include_top=False, weights=None)
    if kept and os.path.exists(kept):
        return kept, tf.function(lambda x: model(x, training=False))
    return export(model, size, kept)


def quantized(path, images):
    """ONNX Runtime's own quantization of a network, its values between what they lie for these images."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, name):
            self.rest = [{name: images[index : index + 1]} for index in range(len(images))]

        def get_next(self):
            return self.rest.pop() if self.rest else None

    import onnx

    name = onnx.load(path, load_external_data=False).graph.input[0].name
    folder = os.path.dirname(path)
    prepared, out = os.path.join(folder, "prepared.onnx"), os.path.join(folder, "int8.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantize_static(prepared, out, Reader(name), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return out


def int8(args):
    """Ours and ONNX Runtime's products of bytes, and of f32, alternately."""
    import keras
    import numpy as np
    import onnxruntime

    sys.path.insert(0, os.path.join(REPOSITORY, "tests", "keras"))
    from applications import NETWORKS

    if args.processor_time:
        args.threads = 1
    rows, made = [], {}
    for name, size, batch, runs in INT8_CASES:
        if args.only not in f"{name} {size} batch {batch}":
            continue
        images = np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
        if name not in made:
            keras.backend.clear_session()
            model = NETWORKS[name][0](input_shape=(size, size, 3), include_top=False, weights=None)
            path, _ = export(model, size)
            made[name] = {"f32": path, "int8": quantized(path, images)}
        sessions = {}
        for kind, path in made[name].items():
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = args.threads
            sessions[kind] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        def ours(kind):
            def run(runs):
                command = [PLAN, name, str(size), str(batch), str(runs), kind]
                environment = {**os.environ, "RAYON_NUM_THREADS": str(args.threads)}
                before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
                printed = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
                seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
                return [float(line) for line in printed.split()], seconds

            if args.processor_time:
                # Without what it takes to make the plan.
                return [(run(runs + 1)[1] - run(1)[1]) / runs * 1e3]
            return run(runs)[0]

        def theirs(kind):
            session = sessions[kind]
            feed = {session.get_inputs()[0].name: images}
            session.run(None, feed)
            if args.processor_time:
                start = time.process_time()
                for _ in range(runs):
                    session.run(None, feed)
                return [(time.process_time() - start) / runs * 1e3]
            times = []
            for _ in range(runs):
                start = time.perf_counter()
                session.run(None, feed)
                times.append((time.perf_counter() - start) * 1e3)
            return times

        times = {}
        for _ in range(args.rounds):
            for kind in ["f32", "int8"]:
                times.setdefault(f"ours {kind}", []).extend(ours(kind))
                times.setdefault(f"onnxruntime {kind}", []).extend(theirs(kind))
        median = {who: statistics.median(values) / batch for who, values in times.items()}
        ours_share = median["ours int8"] / median["ours f32"]
        theirs_share = median["onnxruntime int8"] / median["onnxruntime f32"]
        share = median["ours int8"] / median["onnxruntime int8"]
        rows.append({"network": name, "size": size, "batch": batch, "ms_per_image": median,
                     "ours int8/f32": ours_share, "onnxruntime int8/f32": theirs_share, "ours/onnxruntime int8": share})
        print(f"{name} {size} batch {batch}: ours {median['ours int8']:.2f} ms an image in int8, {median['ours f32']:.2f} in f32 "
              f"({ours_share:.2f}); ONNX Runtime {median['onnxruntime int8']:.2f}, {median['onnxruntime f32']:.2f} "
              f"({theirs_share:.2f}); ours / ONNX Runtime in int8 {share:.2f}", flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"threads": args.threads, "rounds": args.rounds, "onnxruntime": onnxruntime.__version__,
                       "keras": keras.__version__, "cases": rows}, file, indent=1)


def memory(threads):
    """In MB; of ONNX Runtime also without what Python, NumPy and the images take."""
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    subprocess.run([PLAN, "mobilenet-v2", "224", "32", "3"], env=environment, check=True, capture_output=True)
    ours = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    import keras

    path, _ = export(keras.applications.MobileNetV2(input_shape=(224, 224, 3), include_top=False, weights=None), 224)
    printed = subprocess.run([sys.executable, "-c", ONNX_MEMORY, path, str(threads)], check=True, capture_output=True, text=True)
    before, peak = map(int, printed.stdout.split())
    print(f"peak memory, mobilenet-v2 224 batch 32: ours {ours / 1024:.0f} MB with the network and its images, "
          f"ONNX Runtime {peak / 1024:.0f} MB, {(peak - before) / 1024:.0f} MB of it for the session")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name contains one of these, separated by commas")
    parser.add_argument("--models", help="a folder that keeps the ONNX files")
    parser.add_argument("--without-keras", action="store_true")
    parser.add_argument("--zoo", action="store_true", help="every network of Keras Applications")
    parser.add_argument("--json")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--int8", action="store_true", help="products of bytes")
    parser.add_argument("--processor-time", action="store_true", help="with --int8: one thread, and the processor's time")
    args = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if args.memory:
        return memory(args.threads)
    if args.int8:
        return int8(args)
    import numpy as np
    import onnxruntime

    if not args.without_keras:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(args.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if args.models:
        os.makedirs(args.models, exist_ok=True)
    with open(APPLICATIONS) as file:
        networks = list(json.load(file))

    rows = []
    for name, size, batch, runs in zoo(networks) if args.zoo else CASES:
        if not any(only in f"{name} {size} batch {batch}" for only in args.only.split(",")):
            continue
        images = np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
        path, call = peers(name, size, args.models, not args.without_keras)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: images}

        def ours(*precision):
            command = [PLAN, name, str(size), str(batch), str(runs), *precision]
            environment = {**os.environ, "RAYON_NUM_THREADS": str(args.threads)}
            printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            return [float(line) for line in printed.split()]

        def timed(function):
            function()
            times = []
            for _ in range(runs):
                start = time.perf_counter()
                function()
                times.append((time.perf_counter() - start) * 1e3)
            return times

        with open("/proc/cpuinfo") as file:
            has_bf16 = name == "inception-v3" and "avx512_bf16" in file.read()
        times = {"ours": [], "onnxruntime": [], **({} if args.without_keras else {"keras": []}), **({"ours bf16": []} if has_bf16 else {})}
        for _ in range(args.rounds):
            times["ours"] += ours()
            if has_bf16:
                times["ours bf16"] += ours("bf16")
            times["onnxruntime"] += timed(lambda: session.run(None, feed))
            if "keras" in times:
                times["keras"] += timed(lambda: call(images).numpy())
        median = {who: statistics.median(values) / batch for who, values in times.items()}
        row = {"network": name, "size": size, "batch": batch, "ms_per_image": median,
               "ours/onnxruntime": median["ours"] / median["onnxruntime"]}
        more = ""
        if "keras" in times:
            row["ours/keras"] = median["ours"] / median["keras"]
            more += f", Keras {median['keras']:.2f}; ours / Keras {row['ours/keras']:.2f}"
        if has_bf16:
            row["bf16/f32"] = median["ours bf16"] / median["ours"]
            more += f"; bf16 {median['ours bf16']:.2f} ms, {row['bf16/f32']:.2f} of f32"
        rows.append(row)
        print(f"{name} {size} batch {batch}: ours {median['ours']:.2f} ms an image, ONNX Runtime {median['onnxruntime']:.2f}, "
              f"ours / ONNX Runtime {row['ours/onnxruntime']:.2f}{more}", flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"threads": args.threads, "rounds": args.rounds, "onnxruntime": onnxruntime.__version__,
                       "cases": rows}, file, indent=1)


if __name__ == "__main__":
    main()
