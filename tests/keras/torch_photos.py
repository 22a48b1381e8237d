"""Writes tests/golden/torch_photos.json: what timm's own transform makes of pictures, before it normalizes them.

Run from the repository root, in a venv with `pip install timm torchvision pillow`:
    python tests/keras/torch_photos.py

A picture's byte i is i * i // 7 mod 256.
"""

import json
import os

import numpy as np
from PIL import Image
from timm.data import create_transform

OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "torch_photos.json")
# Height and width of the picture, side of the images, crop_pct, crop_mode, interpolation.
CASES = [
    (47, 61, 12, 0.875, "center", "bicubic"),
    (61, 47, 12, 0.875, "center", "bilinear"),
    (30, 77, 13, 0.95, "center", "bicubic"),
    (9, 20, 13, 1.0, "center", "bilinear"),
    (25, 25, 11, 0.75, "center", "lanczos"),
    (47, 61, 12, 1.0, "squash", "bicubic"),
]


def picture(height, width):
    numbers = np.arange(height * width * 3, dtype=np.int64)
    return Image.fromarray((numbers * numbers // 7 % 256).astype(np.uint8).reshape(height, width, 3))


def main():
    found = []
    for height, width, size, share, mode, interpolation in CASES:
        settings = {"mean": (0, 0, 0), "std": (1, 1, 1), "crop_pct": share, "crop_mode": mode}
        transform = create_transform((3, size, size), interpolation=interpolation, **settings)
        pixels = transform(picture(height, width)).permute(1, 2, 0).mul(255).round().int().flatten()
        found.append(
            {
                "photo": [height, width],
                "size": size,
                "crop_pct": share,
                "crop_mode": mode,
                "interpolation": interpolation,
                "pixels": pixels.tolist(),
            }
        )
    with open(OUT, "w") as target:
        target.write("[\n" + ",\n".join(json.dumps(one) for one in found) + "\n]\n")


main()
