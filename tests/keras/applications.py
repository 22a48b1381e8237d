"""Writes tests/golden/applications: what Keras's own applications are, without their weights.

Of every network of `keras.applications`, with every width and `minimalistic`, with ImageNet's top:
`NAME.json.gz`, the model's configuration as `.keras` files have it; and `applications.json`, which says for each network
with and without top what Keras counts, and which published file and hash it would download.

Run from the repository root, in a venv with `pip install tensorflow-cpu`:
    python tests/keras/applications.py [NAME ...]
"""

import gzip
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
from keras.src.utils import file_utils

GOLDEN = os.path.join(os.path.dirname(__file__), "..", "golden", "applications")
applications = keras.applications
ALPHAS = {"mobilenet": (0.25, 0.5, 0.75, 1.0), "mobilenet-v2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)}

# Our names: Keras's constructor, its module with `preprocess_input`, and its settings.
NETWORKS = {
    "mobilenet": (applications.MobileNet, applications.mobilenet, [{"alpha": a} for a in ALPHAS["mobilenet"]]),
    "mobilenet-v2": (applications.MobileNetV2, applications.mobilenet_v2, [{"alpha": a} for a in ALPHAS["mobilenet-v2"]]),
    "inception-v3": (applications.InceptionV3, applications.inception_v3, [{}]),
    "inception-resnet-v2": (applications.InceptionResNetV2, applications.inception_resnet_v2, [{}]),
    "xception": (applications.Xception, applications.xception, [{}]),
    "vgg-16": (applications.VGG16, applications.vgg16, [{}]),
    "vgg-19": (applications.VGG19, applications.vgg19, [{}]),
    "nasnet-mobile": (applications.NASNetMobile, applications.nasnet, [{}]),
    "nasnet-large": (applications.NASNetLarge, applications.nasnet, [{}]),
}
for size in ("small", "large"):
    NETWORKS[f"mobilenet-v3-{size}"] = (
        getattr(applications, f"MobileNetV3{size.title()}"), applications.mobilenet_v3,
        [{"alpha": 0.75}, {"alpha": 1.0}, {"alpha": 1.0, "minimalistic": True}],
    )
for depth in (50, 101, 152):
    NETWORKS[f"resnet-{depth}"] = (getattr(applications, f"ResNet{depth}"), applications.resnet, [{}])
    NETWORKS[f"resnet-{depth}-v2"] = (getattr(applications, f"ResNet{depth}V2"), applications.resnet_v2, [{}])
for depth in (121, 169, 201):
    NETWORKS[f"densenet-{depth}"] = (getattr(applications, f"DenseNet{depth}"), applications.densenet, [{}])
for number in range(8):
    NETWORKS[f"efficientnet-b{number}"] = (
        getattr(applications, f"EfficientNetB{number}"), applications.efficientnet, [{}])
for name in ("B0", "B1", "B2", "B3", "S", "M", "L"):
    NETWORKS[f"efficientnet-v2-{name.lower()}"] = (
        getattr(applications, f"EfficientNetV2{name}"), applications.efficientnet_v2, [{}])
for name in ("Tiny", "Small", "Base", "Large", "XLarge"):
    NETWORKS[f"convnext-{name.lower()}"] = (
        getattr(applications, f"ConvNeXt{name}"), applications.convnext, [{}])

# What a constructor would have downloaded.
asked = []


def get_file(fname=None, origin=None, file_hash=None, **kwargs):
    asked.append({"file": fname, "origin": origin, "hash": file_hash})
    return fname


file_utils.get_file = get_file
keras.Model.load_weights = lambda self, *args, **kwargs: None


def key(name, settings):
    parts = [name]
    if "alpha" in settings:
        parts.append(str(settings["alpha"]))
    if settings.get("minimalistic"):
        parts.append("minimalistic")
    return "-".join(parts)


def built(name, settings, top, size=None):
    """Keras's network as with ImageNet's weights (EfficientNet has a layer that others lack), and the file asked for."""
    keras.backend.clear_session()
    asked.clear()
    shape = {} if size is None else {"input_shape": (size, size, 3)}
    model = NETWORKS[name][0](weights="imagenet", include_top=top, **settings, **shape)
    [file] = asked
    return model, file


def described(model, file):
    trainable = int(sum(np.prod(v.shape) for v in model.trainable_weights))
    return {**file, "layers": len(model.layers), "parameters": model.count_params(), "trainable": trainable}


def main():
    os.makedirs(GOLDEN, exist_ok=True)
    path = os.path.join(GOLDEN, "applications.json")
    known = json.load(open(path)) if os.path.exists(path) else {}
    for name in sys.argv[1:] or NETWORKS:
        _, module, variants = NETWORKS[name]
        pixels = np.array([[[[0, 100, 255], [17, 3, 200]]]], np.float32)
        entry = {
            "pixels": pixels.ravel().tolist(),
            "preprocessed": [float(v) for v in module.preprocess_input(pixels.copy()).ravel()],
            "networks": [],
        }
        for settings in variants:
            whole, file = built(name, settings, True)
            case = {**settings, "key": key(name, settings), "size": whole.input_shape[1], "top": described(whole, file)}
            with gzip.GzipFile(os.path.join(GOLDEN, f"{case['key']}.json.gz"), "wb", mtime=0) as out:
                out.write(json.dumps(json.loads(whole.to_json()), separators=(",", ":")).encode())
            del whole
            case["no_top"] = described(*built(name, settings, False, case["size"]))
            # The MobileNets have files of their own for other sizes.
            sizes = {"mobilenet": (128, 160, 192, 224), "mobilenet-v2": (96, 128, 160, 192, 224)}.get(name, ())
            case["files"] = [
                {"size": size, "top": top, **built(name, settings, top, size)[1]} for size in sizes for top in (True, False)
            ]
            entry["networks"].append(case)
            print(case["key"], case["top"]["layers"], case["top"]["parameters"], case["top"]["file"], flush=True)
        known[name] = entry
        with open(path, "w") as out:
            json.dump(dict(sorted(known.items())), out, indent=1)
            out.write("\n")


if __name__ == "__main__":
    main()
