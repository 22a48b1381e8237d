"""Runs Rekindle on a GPU beside PyTorch, alternately, and prints medians and ratios: inference, steps of training, and the
tutorial's program.

On a machine with a GPU, from the repository root (both programs can be built on one without):
    cargo build --release -p rekindle-cli --features cuda,wgpu
    python3 -m venv .venv && .venv/bin/pip install torch torchvision
    .venv/bin/python benches/gpu/compare.py [--devices cuda,wgpu] [--rounds 5] [--only inference|train|fit] [--json FILE]

Inference: networks without top, random weights, batches of 1, 32 and 256; PyTorch's torchvision networks with channels_last,
cudnn.benchmark and torch.compile, in float32 with TF32 and in bf16. Training: the same, batches of 32 at 160 pixels; ours computes what is
frozen once, PyTorch in every step. The tutorial's program: InceptionV3 at 160 pixels, frozen, Flatten, Dense(512), Dropout(0.5),
Dense(5), 10 epochs; PyTorch decodes, resizes and forwards every photo in every epoch, with as many workers as cores. Medians
after warm-up; a row whose device is not there says so. `--check` runs only ours, small and without PyTorch: on software Vulkan,
`--check --devices wgpu:cpu` shows that everything works.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.append(os.path.join(ROOT, "benches", "peers"))
from train import copies  # noqa: E402

REKINDLE = os.environ.get("REKINDLE", os.path.join(ROOT, "target", "release", "rekindle"))
SIZES = {"mobilenet-v2": 224, "inception-v3": 299}
# Where training begins: what is frozen, Keras's layer before it.
TRAIN = [("mobilenet-v2", "all", "none"), ("mobilenet-v2", "block_13 on", "block_12_add"), ("inception-v3", "mixed8 on", "mixed7")]


def ours(*words):
    return subprocess.run([REKINDLE, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True).stdout


def torch_network(name):
    import torch
    import torchvision

    if name == "mobilenet-v2":
        network = torchvision.models.mobilenet_v2(weights=None).features
    else:
        network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
        network.avgpool, network.dropout, network.fc = torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity()
    return network.cuda().to(memory_format=torch.channels_last)


def torch_median(function, runs, warm_up=10):
    """Milliseconds, by the GPU's own clock."""
    import torch

    for _ in range(warm_up):
        function()
    times = []
    for _ in range(runs):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def torch_inference(name, size, batch, precision, runs):
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    network = torch.compile(torch_network(name).eval())
    images = torch.rand(batch, 3, size, size, device="cuda").contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        return torch_median(lambda: network(images), runs) / batch


def torch_step(name, frozen, precision, runs):
    """Batches of 32 at 160 pixels; `frozen` is Keras's name of the last layer that is."""
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    network = torch_network(name)
    trains = {"none": list(network.children()), "block_12_add": list(network.children())[14:],
              "mixed7": [getattr(network, part, None) for part in ("Mixed_7a", "Mixed_7b", "Mixed_7c")]}[frozen]
    network.requires_grad_(False).eval()
    for part in trains:
        part.requires_grad_(True)
    channels = 1280 if name == "mobilenet-v2" else 2048
    head = torch.nn.Linear(channels, 5).cuda()
    parameters = [p for p in network.parameters() if p.requires_grad] + list(head.parameters())
    optimizer = torch.optim.Adam(parameters, 1e-5, fused=True)
    images = torch.rand(32, 3, 160, 160, device="cuda").contiguous(memory_format=torch.channels_last)
    labels = torch.arange(32, device="cuda") % 5
    body = torch.compile(network)

    def step():
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            features = body(images)
            features = features.mean((2, 3)) if features.dim() == 4 else features
            loss = torch.nn.functional.cross_entropy(head(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return torch_median(step, runs)


def torch_fit(photos, epochs):
    import time

    import torch
    import torchvision
    from torchvision import transforms as t

    start = time.perf_counter()
    prepare = t.Compose([t.Resize((160, 160)), t.ToTensor(), t.Normalize([0.5] * 3, [0.5] * 3)])
    data = torchvision.datasets.ImageFolder(photos, prepare)
    train, valid = torch.utils.data.random_split(data, [0.8, 0.2], torch.Generator().manual_seed(0))
    workers = os.cpu_count()
    load = lambda part, shuffle: torch.utils.data.DataLoader(part, 32, shuffle, num_workers=workers, pin_memory=True, persistent_workers=True)
    loaders = load(train, True), load(valid, False)
    network = torch_network("inception-v3").eval().requires_grad_(False)
    maps = {}
    network.Mixed_7c.register_forward_hook(lambda module, inputs, output: maps.update(last=output))
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(512), torch.nn.ReLU(), torch.nn.Dropout(0.5),
                               torch.nn.Linear(512, len(data.classes))).cuda()

    def logits(images):
        with torch.no_grad():
            network(images.cuda(non_blocking=True).contiguous(memory_format=torch.channels_last))
        return head(maps["last"])

    logits(torch.zeros(2, 3, 160, 160))
    optimizer = torch.optim.Adam(head.parameters(), 1e-3, fused=True)
    for _ in range(epochs):
        head.train()
        for images, labels in loaders[0]:
            loss = torch.nn.functional.cross_entropy(logits(images), labels.cuda(non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        head.eval()
        with torch.no_grad():
            right = sum(int((logits(images).argmax(1).cpu() == labels).sum()) for images, labels in loaders[1])
    print(right, file=sys.stderr)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", default="cuda,wgpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json")
    args = parser.parse_args()
    has_torch = False
    if not args.check:
        import torch

        has_torch = torch.cuda.is_available()
        print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name() if has_torch else 'no CUDA'}")
    print(ours("devices"), end="")
    devices, rows = args.devices.split(","), []

    def compare(case, unit, mine, theirs):
        """Medians over rounds, alternately; `mine` by device."""
        times = {device: [] for device in [*devices, "torch"]}
        for _ in range(1 if args.check else args.rounds):
            for device in devices:
                try:
                    times[device].append(mine(device))
                except subprocess.CalledProcessError as error:
                    print(f"{case}, {device}: failed with status {error.returncode}")
            if has_torch:
                times["torch"].append(theirs())
        row = {"case": case, "unit": unit, **{who: statistics.median(t) for who, t in times.items() if t}}
        row |= {f"{who} / torch": row[who] / row["torch"] for who in devices if who in row and "torch" in row}
        rows.append(row)
        print("  ".join(f"{k}: {v:.4g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items()), flush=True)

    precisions = ["f32"] if args.check else ["f32", "bf16"]
    # What wgpu has instead.
    half = lambda precision, device: "f16" if precision == "bf16" and device.startswith("wgpu") else precision

    def inference(name, batch, precision, size, runs):
        mine = lambda device: json.loads(ours("bench", name, "--size", size, "--batch", batch, "--runs", runs, "--device", device,
                                              "--precision", half(precision, device), "--json"))["milliseconds"]
        compare(f"{name} {size}, batch {batch}, {precision}", "ms an image", mine,
                lambda: torch_inference(name, size, batch, precision, runs))

    if args.only in ("", "inference"):
        for name, size in SIZES.items():
            for precision in precisions:
                for batch in [2] if args.check else [1, 32, 256]:
                    inference(name, batch, precision, 96 if args.check else size, 2 if args.check else 30)
    with tempfile.TemporaryDirectory() as folder:
        count, size, epochs = (24, 75, 2) if args.check else (241, 160, 10)
        data = os.path.join(folder, "photos")
        copies(data, count)

        def train(device, base, *words):
            report = os.path.join(folder, "report.json")
            ours("train", data, "--base", base, "--size", size, "--device", device, "--plain", "--out",
                 os.path.join(folder, "model.rekindle"), "--report", report, *words)
            with open(report) as file:
                return json.load(file)

        if args.only in ("", "train"):
            for (base, label, frozen), precision in itertools.product(TRAIN, precisions):
                def step(device, base=base, frozen=frozen, precision=precision):
                    report = train(device, base, "--weights", "random", "--freeze-until", frozen, "--epochs", 4, "--valid-split", 0,
                                   "--precision", half(precision, device))
                    seconds = [epoch["seconds"] for epoch in report["epochs"]][1:]
                    return statistics.median(seconds) * 1e3 / -(-count // 32)

                compare(f"{base} {size}, {label}, batch 32, {precision}", "ms a step", step,
                        lambda: torch_step(base, frozen, precision, 30))
        if args.only in ("", "fit"):
            def fit(device):
                return train(device, "inception-v3", "--weights", "random", "--head", "flatten-512", "--epochs",
                             epochs)["total_seconds"]

            compare(f"inception-v3 {size}, Flatten, Dense(512), {epochs} epochs, {count} photos", "s in all", fit,
                    lambda: torch_fit(data, epochs))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
