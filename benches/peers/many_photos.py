"""Trains on 10,000 photos of 12 megapixels and prints how long it took and the most memory that it had.

From the repository root; needs 300 MB of disk:
    cargo build --release --bin rekindle
    python3 -m venv .venv && .venv/bin/pip install numpy pillow
    .venv/bin/python benches/peers/many_photos.py [--photos 10000]

The demo photos, enlarged to 4000 x 3000 with noise, under as many names as there are photos. Frozen MobileNetV2 at 160 pixels, Flatten,
Dense(512), 2 epochs: 1.3 GB of features, most of which have to go to a file.
"""

import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
REKINDLE = os.path.join(ROOT, "target", "release", "rekindle")


def make(folder):
    """The large photos, as files whose names begin with their class."""
    random = np.random.default_rng(0)
    for number, path in enumerate(sorted(glob.glob(os.path.join(ROOT, "demo", "photos", "*", "*.jpg")))):
        image = Image.open(path).convert("RGB").resize((4000, 3000), Image.BICUBIC)
        noisy = np.asarray(image).astype(np.int16) + random.integers(-12, 13, (3000, 4000, 1))
        name = f"{os.path.basename(os.path.dirname(path))}-{number}.jpg"
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(os.path.join(folder, name), quality=90)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=10000)
    parser.add_argument("--make", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        return make(args.make)
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: what a process is started from counts for its own most memory.
        subprocess.run([sys.executable, __file__, "--make", folder], check=True)
        large = [(os.path.join(folder, name), name.split("-")[0]) for name in sorted(os.listdir(folder))]
        for number in range(args.photos):
            file, name = large[number % len(large)]
            os.makedirs(os.path.join(folder, "photos", name), exist_ok=True)
            os.link(file, os.path.join(folder, "photos", name, f"{number:05}.jpg"))
        report = os.path.join(folder, "report.json")
        command = [REKINDLE, "train", os.path.join(folder, "photos"), "--size", "160", "--head", "flatten-512", "--epochs", "2", "--plain",
                   "--out", os.path.join(folder, "model.rekindle"), "--report", report]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open(report) as file:
            found = json.load(file)
    print(f"{args.photos} photos: {found['total_seconds']:.0f} s, at most {found['peak_rss_bytes'] / 2**20:.0f} MiB; the frozen "
          f"network waited {found['waiting_seconds']:.0f} s for photos")


if __name__ == "__main__":
    main()
