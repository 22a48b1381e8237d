"""Eight shards by two workers, one of which is killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ray

work = Path(sys.argv[1])
command = os.environ["REKINDLE"]
COUNT = 8


@ray.remote(num_cpus=1, max_retries=3)
def shard(index):
    # So that the driver can find the worker that it kills.
    (work / f"worker-{index}").write_text(str(os.getpid()))
    arguments = ["features", work / "photos", "--size", os.environ["SIZE"], "--plain", "--part", "16"]
    arguments += ["--shard", f"{index}/{COUNT}", "--out", work / "features"]
    # The kernel ends the command when its worker is gone: else a retry would find it at work.
    import ctypes

    die = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    done = subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, preexec_fn=die)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stderr.strip().splitlines()[-1]


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
start = time.time()
tasks = [shard.remote(index) for index in range(COUNT)]
parts = work / "features"
while not list(parts.glob(".features-00000-*/part-*")):
    time.sleep(0.05)
worker = int((work / "worker-0").read_text())
os.kill(worker, signal.SIGKILL)
print("killed worker", worker, "after", len(list(parts.glob(".features-00000-*/part-*"))), "parts")
for line in ray.get(tasks):
    print(line)
print(f"8 shards by 2 workers, one killed: {time.time() - start:.1f} s")

import json

import numpy


def rows(path):
    """A shard as columns, by what safetensors are: a length, a JSON header, bytes."""
    data = Path(path).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    bytes_of = lambda name: data[end + header[name]["data_offsets"][0] : end + header[name]["data_offsets"][1]]
    photos = [json.loads(line) for line in bytes_of("photos").splitlines()]
    values = numpy.frombuffer(bytes_of("features"), "<f4").reshape(header["features"]["shape"])
    kept = [photo for photo in photos if "lost" not in photo]
    return {"path": [photo["path"] for photo in kept], "features": values}


files = [str(path) for path in sorted(parts.glob("*.safetensors"))]
data = ray.data.from_items(files).flat_map(
    lambda row: [{"path": p, "mean": float(f.mean())} for p, f in zip(*rows(row["item"]).values())]
)
print("Ray Data:", data.count(), "photos, mean feature", round(data.mean("mean"), 6))
