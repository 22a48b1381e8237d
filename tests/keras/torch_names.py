"""Writes tests/golden/torch_names.json: for each network of timm and torchvision that Rekindle writes, the SHA-256 of the names
and shapes of its tensors.

Run from the repository root, in a venv with `pip install torch torchvision timm`:
    python tests/keras/torch_names.py

The networks are made on torch's device `meta`, without weights, for seven classes.
"""

import hashlib
import json
import os
import sys
import warnings

import timm
import torch
import torchvision

warnings.filterwarnings("ignore")
OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "torch_names.json")
TIMM = (
    [f"resnet{depth}" for depth in (50, 101, 152)]
    + [f"densenet{depth}" for depth in (121, 169, 201)]
    + ["vgg16", "vgg19", "legacy_xception", "inception_v3", "inception_v4"]
    + [f"mobilenetv2_{width}" for width in ("035", "050", "075", "100", "140")]
    + [f"mobilenetv3_{size}_{width}" for size in ("large", "small") for width in ("100", "075")]
    + [f"tf_mobilenetv3_{size}_{form}" for size in ("large", "small") for form in ("100", "075", "minimal_100")]
    + [f"{tf}efficientnet_b{size}" for tf in ("", "tf_") for size in range(8)]
    + [f"tf_efficientnetv2_{size}" for size in ("b0", "b1", "b2", "b3", "s", "m", "l")]
    + [f"efficientnetv2_{size}" for size in "sml"]
    + [f"convnext_{size}" for size in ("tiny", "small", "base", "large", "xlarge")]
)
TORCHVISION = (
    [f"resnet{depth}" for depth in (50, 101, 152)]
    + [f"densenet{depth}" for depth in (121, 169, 201)]
    + ["vgg16", "vgg19", "inception_v3"]
    + ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]
    + [f"efficientnet_b{size}" for size in range(8)]
    + [f"efficientnet_v2_{size}" for size in "sml"]
    + [f"convnext_{size}" for size in ("tiny", "small", "base", "large")]
)
WIDTHS = (0.35, 0.5, 0.75, 1.3, 1.4)


def described(model):
    state = model.state_dict().items()
    lines = [f"{name} {list(tensor.shape)}\n" for name, tensor in state if tensor.is_floating_point()]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def main():
    found = {}
    with torch.device("meta"):
        for name in TIMM:
            found[f"timm {name}"] = described(timm.create_model(name, num_classes=7))
        for name in TORCHVISION:
            settings = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
            found[f"torchvision {name}"] = described(getattr(torchvision.models, name)(num_classes=7, **settings))
        for width in WIDTHS:
            model = torchvision.models.mobilenet_v2(num_classes=7, width_mult=width)
            found[f"torchvision mobilenet_v2 {width}"] = described(model)
    if sys.argv[1:] == ["--show"]:
        print(found)
        return
    with open(OUT, "w") as target:
        target.write(json.dumps(found, indent=1, sort_keys=True) + "\n")


main()
