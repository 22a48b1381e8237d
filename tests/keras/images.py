"""Writes tests/golden/images/: Keras's own resizes and modes.

Run from the repository root, in a venv with `pip install tensorflow-cpu "pillow<13" safetensors`
(Pillow 13 resizes some tall images rows first, and is then a level off here and there):
    python tests/keras/images.py
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(__file__))
import formula

ROOT = os.path.join(os.path.dirname(__file__), "..", "golden", "images")
# Name, width, height: odd, tall, wide, smaller and larger than what they become.
SOURCES = [("odd", 97, 61), ("tall", 7, 150), ("wide", 203, 5), ("small", 13, 11), ("one", 1, 1)]
TARGETS = [(32, 32), (96, 75), (50, 51)]


def main():
    os.makedirs(ROOT, exist_ok=True)
    smooth = {}
    for name, width, height in SOURCES:
        pixels = formula.image(f"source/{name}", max(width, height))[:height, :width].astype(np.uint8)
        path = os.path.join(ROOT, f"{name}.png")
        Image.fromarray(pixels).save(path, optimize=True)
        for target_width, target_height in TARGETS:
            for method in ("nearest", "bilinear"):
                image = keras.utils.load_img(path, target_size=(target_height, target_width), interpolation=method)
                image.save(os.path.join(ROOT, f"{name}-{target_width}x{target_height}-{method}.png"), optimize=True)
            # As keras.utils.image_dataset_from_directory does it.
            image = tf.image.decode_png(tf.io.read_file(path), channels=3)
            image = tf.image.resize(image, (target_height, target_width), method="bilinear")
            smooth[f"{name}-{target_width}x{target_height}"] = np.asarray(image, np.float32)
    # A JPEG of printers' colors, and what Pillow makes of it.
    y, x = np.mgrid[0:32, 0:32].astype(np.uint8) * 8
    path = os.path.join(ROOT, "cmyk.jpg")
    Image.fromarray(np.stack([x, y, 255 - x, y // 2], axis=2), "CMYK").save(path, quality=95)
    Image.open(path).convert("RGB").save(os.path.join(ROOT, "cmyk.png"), optimize=True)
    save_file(smooth, os.path.join(ROOT, "tf-bilinear.safetensors"))
    modes = {"none": np.arange(256 * 3, dtype=np.float32).reshape(1, 256, 3) % 251.0}
    for mode in ("tf", "caffe", "torch"):
        modes[mode] = keras.src.applications.imagenet_utils.preprocess_input(modes["none"].copy(), mode=mode)
    save_file({name: np.ascontiguousarray(value) for name, value in modes.items()}, os.path.join(ROOT, "preprocessing.safetensors"))


if __name__ == "__main__":
    main()
