"""Writes tests/golden/images/photos/ and photos.json: photos of every kind, and what Keras's two ways decode;
and resizes.json and resizes.f32: what every resize of Keras's makes of some of tests/golden/images/*.png.

Run from the repository root, in a venv with `pip install tensorflow-cpu "pillow<13"`:
    python tests/keras/photos.py
"""

import hashlib
import io
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

sys.path.insert(0, os.path.dirname(__file__))
from jpegs import JFIF, adobe, encode

ROOT = os.path.join(os.path.dirname(__file__), "..", "golden", "images")


def picture(width, height, channels=3, seed=1, noise=40):
    """Slopes and edges with noise on them, so that every step of a decoder shows."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [128 + 110 * np.sin(x / (3 + c) + seed) * np.cos(y / (5 - c) - c) for c in range(channels)]
    waves[0] = np.where((x + y) % 23 < 11, waves[0], 255 - waves[0])
    random = np.random.default_rng(seed).normal(0, noise, (height, width, channels))
    return np.clip(np.stack(waves, axis=2) + random, 0, 255).astype(np.uint8)


def ycc(rgb):
    r, g, b = (rgb[:, :, c].astype(float) for c in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return [y, 128 + 0.564 * (b - y), 128 + 0.713 * (r - y)]


def saved(image, kind="JPEG", **settings):
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def jpegs():
    for width, height in [(45, 31), (16, 16), (1, 1), (33, 1), (7, 50)]:
        image = Image.fromarray(picture(width, height))
        for name, subsampling in [("444", 0), ("422", 1), ("420", 2)]:
            for progressive in (False, True):
                kind = "progressive" if progressive else "baseline"
                yield f"{kind}-{name}-{width}x{height}.jpg", saved(image, quality=80, subsampling=subsampling, progressive=progressive)
    image = Image.fromarray(picture(53, 37, seed=2))
    for quality in (1, 20, 100):
        yield f"quality-{quality}.jpg", saved(image, quality=quality)
        yield f"quality-{quality}-progressive.jpg", saved(image, quality=quality, progressive=True)
    loud = Image.fromarray(np.where(picture(40, 40, noise=200) > 128, 255, 0).astype(np.uint8))
    for quality in (3, 50, 99):
        yield f"loud-{quality}.jpg", saved(loud, quality=quality, subsampling=0)
    for blocks in (1, 3):
        yield f"restart-{blocks}.jpg", saved(image, restart_marker_blocks=blocks)
        yield f"restart-{blocks}-progressive.jpg", saved(image, restart_marker_blocks=blocks, progressive=True)
    yield "restart-row.jpg", saved(image, restart_marker_rows=1, subsampling=0)
    grey = Image.fromarray(picture(41, 29)[:, :, 0])
    yield "grey.jpg", saved(grey)
    yield "grey-progressive.jpg", saved(grey, progressive=True)
    yield "optimized.jpg", saved(image, optimize=True)
    yield "rgb.jpg", saved(image, keep_rgb=True)
    yield "icc.jpg", saved(image, icc_profile=bytes(range(256)) * 3)
    yield "comment.jpg", saved(image, comment=b"a comment")
    cmyk = Image.fromarray(picture(43, 27, 4), "CMYK")
    yield "cmyk-pillow.jpg", saved(cmyk, quality=90)
    yield "cmyk-pillow-progressive.jpg", saved(cmyk, quality=90, progressive=True)
    yield "mpo.jpg", saved(image, "MPO", save_all=True, append_images=[Image.fromarray(picture(20, 20))])
    small = Image.fromarray(picture(24, 17, seed=3))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"orientation-{orientation}.jpg", saved(small, exif=exif, quality=90)
    whole = saved(image, quality=85)
    yield "trailing.jpg", whole + b"what a phone puts behind" * 3
    yield "no-end.jpg", whole[:-2]
    yield "cut.jpg", whole[: len(whole) * 2 // 3]
    yield "cut-header.jpg", whole[:300]
    whole = saved(image, quality=85, progressive=True)
    yield "cut-progressive.jpg", whole[: len(whole) * 2 // 3]
    yield "no-end-progressive.jpg", whole[:-2]
    # What Pillow does not write.
    rgb = picture(50, 39, seed=4)
    three = ycc(rgb)
    samplings = {
        "440": [(1, 2), (1, 1), (1, 1)],
        "411": [(4, 1), (1, 1), (1, 1)],
        "441": [(1, 4), (1, 1), (1, 1)],
        "410": [(4, 2), (1, 1), (1, 1)],
        "24": [(2, 4), (1, 1), (1, 1)],
        "31": [(3, 1), (1, 1), (1, 1)],
        "13": [(1, 3), (1, 1), (1, 1)],
        "33": [(2, 2), (2, 2), (2, 2)],
        "mixed": [(2, 2), (1, 2), (2, 1)],
        "one-small": [(2, 2), (1, 1), (2, 2)],
        "422-as-42": [(2, 2), (1, 2), (1, 2)],
        "440-as-42": [(2, 2), (2, 1), (2, 1)],
        "rich-chroma": [(1, 1), (2, 2), (2, 2)],
        "uneven": [(3, 2), (2, 1), (1, 1)],
    }
    for name, sampling in samplings.items():
        yield f"sampling-{name}.jpg", encode(three, sampling, markers=[JFIF])
        # Ten blocks are the most that one unit of a scan may have.
        yield f"sampling-{name}-progressive.jpg", encode(three, sampling, markers=[JFIF], progressive=True)
    yield "separate-scans.jpg", encode(three, [(2, 2), (1, 1), (1, 1)], markers=[JFIF], interleaved=False)
    yield "separate-scans-restart.jpg", encode(three, [(2, 2), (1, 1), (1, 1)], markers=[JFIF], interleaved=False, interval=2)
    yield "extraneous.jpg", encode(three, [(2, 1), (1, 1), (1, 1)], markers=[JFIF], before_eoi=b"stray")
    yield "no-markers.jpg", encode(three, [(1, 1)] * 3)
    planes = [rgb[:, :, c] for c in range(3)]
    yield "rgb-adobe.jpg", encode(planes, [(1, 1)] * 3, markers=[adobe(0)])
    yield "rgb-letters.jpg", encode(planes, [(1, 1)] * 3, ids=[82, 71, 66])
    yield "rgb-adobe-420.jpg", encode(planes, [(2, 2), (1, 1), (1, 1)], markers=[adobe(0)])
    yield "ycc-adobe.jpg", encode(three, [(2, 1), (1, 1), (1, 1)], markers=[adobe(1)])
    yield "jfif-and-adobe.jpg", encode(planes, [(1, 1)] * 3, markers=[JFIF, adobe(0)])
    yield "grey-2x2.jpg", encode(three[:1], [(2, 2)], markers=[JFIF])
    yield "grey-restart.jpg", encode(three[:1], [(1, 1)], markers=[JFIF], interval=3)
    four = [255.0 - picture(50, 39, 4, seed=5)[:, :, c] for c in range(4)]
    yield "cmyk-adobe.jpg", encode(four, [(1, 1)] * 4, markers=[adobe(0)])
    yield "cmyk-bare.jpg", encode(four, [(1, 1)] * 4)
    black = [four[3]]
    yield "ycck.jpg", encode(three + black, [(1, 1)] * 4, markers=[adobe(2)])
    yield "ycck-420.jpg", encode(three + black, [(2, 2), (1, 1), (1, 1), (2, 2)], markers=[adobe(2)])
    yield "ycck-422.jpg", encode(three + black, [(2, 1), (1, 1), (1, 1), (2, 1)], markers=[adobe(2)])
    yield "ycck-440.jpg", encode(three + black, [(1, 2), (1, 1), (1, 1), (1, 2)], markers=[adobe(2)])
    yield "ycck-420-progressive.jpg", encode(three + black, [(2, 2), (1, 1), (1, 1), (2, 2)], markers=[adobe(2)], progressive=True)
    yield "cmyk-420.jpg", encode(four, [(2, 2), (1, 1), (1, 1), (2, 2)], markers=[adobe(0)])
    yield "two-components.jpg", encode(four[:2], [(1, 1)] * 2)


def others():
    rgba = picture(37, 25, 4, seed=6)
    rgba[:, :12, 3] = 0
    rgba[:, 12:20, 3] = 255
    color = Image.fromarray(rgba[:, :, :3])
    clear = Image.fromarray(rgba, "RGBA")
    yield "rgb.png", saved(color, "PNG")
    yield "rgba.png", saved(clear, "PNG")
    yield "grey.png", saved(color.convert("L"), "PNG")
    yield "grey-alpha.png", saved(clear.convert("LA"), "PNG")
    yield "palette.png", saved(color.quantize(17), "PNG")
    yield "palette-clear.png", saved(color.quantize(17), "PNG", transparency=3)
    yield "palette-alpha.png", saved(clear.quantize(17, method=2), "PNG")
    yield "key.png", saved(color, "PNG", transparency=color.getpixel((0, 0)))
    yield "grey-key.png", saved(color.convert("L"), "PNG", transparency=color.convert("L").getpixel((0, 0)))
    yield "one-bit.png", saved(color.convert("1"), "PNG")
    deep = tf.constant(rgba[:, :, :3].astype(np.uint16) * 251 + 77)
    yield "rgb-16.png", tf.io.encode_png(deep).numpy()
    deep = tf.constant(rgba.astype(np.uint16) * 251 + 77)
    yield "rgba-16.png", tf.io.encode_png(deep).numpy()
    deep = tf.constant(rgba[:, :, :1].astype(np.uint16) * 251 + 77)
    yield "grey-16.png", tf.io.encode_png(deep).numpy()
    yield "rgb.bmp", saved(color, "BMP")
    yield "grey.bmp", saved(color.convert("L"), "BMP")
    yield "rgba.bmp", saved(clear, "BMP")
    yield "rgb.gif", saved(color, "GIF")
    yield "animated.gif", saved(color, "GIF", save_all=True, append_images=[ImageOps.invert(color)])
    yield "clear.gif", saved(color.quantize(17), "GIF", transparency=3)
    yield "rgb.webp", saved(color, "WEBP", lossless=True)
    yield "rgba.webp", saved(clear, "WEBP", lossless=True, exact=True)
    yield "lossy.webp", saved(color, "WEBP", quality=80)
    yield "rgb.tif", saved(color, "TIFF")
    yield "rgba-lzw.tif", saved(clear, "TIFF", compression="tiff_lzw")
    yield "grey-deflate.tif", saved(color.convert("L"), "TIFF", compression="tiff_adobe_deflate")
    yield "cmyk.tif", saved(color.convert("CMYK"), "TIFF")
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "orientation-6.png", saved(color, "PNG", exif=exif)
    yield "orientation-6.webp", saved(color, "WEBP", lossless=True, exif=exif)
    yield "orientation-6.tif", saved(color, "TIFF", exif=exif)


def digest(pixels):
    pixels = np.ascontiguousarray(np.asarray(pixels))
    if pixels.dtype != np.uint8:
        return None
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def attempt(decode):
    try:
        return digest(decode())
    except Exception:
        return "error"


def tensorflow(data, channels):
    image = tf.io.decode_image(data, channels=channels, expand_animations=False)
    return image.numpy()


def drafted(data, scale):
    image = Image.open(io.BytesIO(data))
    image.draft(None, (image.width // scale, image.height // scale))
    image = image.convert("RGB")
    return [image.width, image.height, digest(image)]


PILLOW = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
TENSORFLOW = ["nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic"]


def resizes():
    """Pillow's as hashes; TensorFlow's as floats in one file, of which each case has its share."""
    cases, floats = [], []
    sources = [("odd", 97, 61), ("tall", 7, 150), ("wide", 203, 5), ("small", 13, 11), ("one", 1, 1)]
    for name, width, height in sources:
        path = os.path.join(ROOT, f"{name}.png")
        rgb = np.asarray(Image.open(path).convert("RGB"))
        # Opacity from nothing to all, and all between.
        alpha = np.clip(rgb[:, ::-1, 1].astype(int) * 2 - 128, 0, 255).astype(np.uint8)
        images = {"rgb": rgb, "grey": rgb[:, :, 0], "rgba": np.dstack([rgb, alpha])}
        for to in [(23, 19), (9, 40), (width, height), (width, 17), (224, 160)]:
            for channels, pixels in images.items():
                data = io.BytesIO(saved(Image.fromarray(np.ascontiguousarray(pixels)), "PNG"))
                mode = {"rgb": "rgb", "grey": "grayscale", "rgba": "rgba"}[channels]
                for method in PILLOW:
                    image = keras.utils.load_img(data, color_mode=mode, target_size=to[::-1], interpolation=method)
                    data.seek(0)
                    cases.append({"source": name, "channels": channels, "to": to, "method": method, "sha256": digest(image)})
            # Hundreds of kilobytes each would be too many.
            if to[0] * to[1] > 1000 or name == "one":
                continue
            for method in TENSORFLOW:
                image = tf.image.resize(rgb, to[::-1], method=method)
                image = np.asarray(image, np.float32)
                cases.append({"source": name, "channels": "rgb", "to": to, "method": f"tf-{method}", "first": sum(map(len, floats))})
                floats.append(image.reshape(-1))
    with open(os.path.join(ROOT, "resizes.json"), "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    np.concatenate(floats).astype("<f4").tofile(os.path.join(ROOT, "resizes.f32"))


def main():
    resizes()
    folder = os.path.join(ROOT, "photos")
    os.makedirs(folder, exist_ok=True)
    modes = {"rgb": ("rgb", 3), "grey": ("grayscale", 1), "rgba": ("rgba", 4)}
    cases = []
    for name, data in list(jpegs()) + list(others()):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
        load = lambda mode: keras.utils.load_img(io.BytesIO(data), color_mode=mode)
        case = {"name": name}
        case["pillow"] = {key: attempt(lambda: load(mode)) for key, (mode, _) in modes.items()}
        case["tensorflow"] = {key: attempt(lambda: tensorflow(data, count)) for key, (_, count) in modes.items()}
        try:
            image = Image.open(io.BytesIO(data))
            case["size"] = [image.width, image.height]
            case["orientation"] = image.getexif().get(0x0112, 1)
            if case["orientation"] != 1:
                upright = ImageOps.exif_transpose(image).convert("RGB")
                case["upright"] = [upright.width, upright.height, digest(upright)]
            if name.endswith(".jpg") and case["pillow"]["rgb"] != "error":
                case["draft"] = {scale: drafted(data, scale) for scale in (2, 4, 8) if min(image.size) >= scale}
        except Exception as error:
            print(name, error)
        cases.append(case)
    lines = ",\n".join(json.dumps(case) for case in cases)
    with open(os.path.join(ROOT, "photos.json"), "w") as file:
        file.write(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
