"""Writes tests/golden/torch/: the tensors of timm's and torchvision's networks, names and shapes, and what these answer;
and transformers' own.

Run from the repository root, in a venv with `pip install torch torchvision timm transformers`:
    python tests/keras/torch_networks.py [NAME ...]

Golden files hold no weights: every tensor is filled from a formula of its name (formula.py, and the test). The answers are
timm's and torchvision's own, on the picture whose byte i is 37 i mod 256, scaled as the network's own settings say.
"""

import gzip
import json
import os
import sys
import tempfile
import warnings
from collections import OrderedDict

import numpy as np
import timm
import torch
import torchvision
import transformers
from timm.models._hub import save_config_for_hf

import formula

warnings.filterwarnings("ignore")
OUT = os.path.join(os.path.dirname(__file__), "..", "golden", "torch")
# Program, network, side of the images, classes.
NETWORKS = [
    ("timm", "resnet50", 64, 1000),
    ("torchvision", "resnet101", 65, 7),
    ("timm", "mobilenetv2_100", 64, 8),
    ("timm", "mobilenetv2_140", 71, 5),
    ("torchvision", "mobilenet_v2", 64, 8),
    ("timm", "efficientnet_b0", 64, 8),
    ("timm", "efficientnet_b3", 71, 4),
    ("timm", "tf_efficientnet_b0", 64, 8),
    ("torchvision", "efficientnet_b0", 64, 8),
    ("torchvision", "efficientnet_b5", 64, 3),
    ("timm", "inception_v4", 139, 8),
    ("timm", "mobilenetv3_large_100", 64, 8),
    ("timm", "tf_mobilenetv3_large_075", 64, 8),
    ("timm", "tf_mobilenetv3_large_minimal_100", 71, 8),
    ("timm", "mobilenetv3_small_075", 71, 8),
    ("timm", "tf_mobilenetv3_small_100", 64, 8),
    ("torchvision", "mobilenet_v3_large", 64, 8),
    ("torchvision", "mobilenet_v3_small", 71, 8),
    ("timm", "densenet121", 64, 8),
    ("torchvision", "densenet169", 71, 8),
    ("timm", "legacy_xception", 96, 8),
    ("torchvision", "inception_v3", 107, 8),
    ("timm", "inception_v3", 107, 8),
    ("timm", "convnext_tiny", 64, 8),
    ("torchvision", "convnext_tiny", 64, 8),
    ("timm", "tf_efficientnetv2_b0", 64, 8),
    ("timm", "tf_efficientnetv2_b3", 71, 8),
    ("timm", "tf_efficientnetv2_s", 64, 8),
    ("timm", "efficientnetv2_s", 64, 8),
    ("torchvision", "efficientnet_v2_s", 64, 8),
    ("torchvision", "vgg16", 48, None),
    ("timm", "vgg19", 48, None),
    # With the configurations of a folder of Hugging Face's.
    ("timm", "tf_efficientnet_b1", 64, 5),
    ("transformers", "resnet", 64, 5),
    ("transformers", "convnext", 64, 5),
    ("transformers", "mobilenet_v2", 64, 5),
    ("transformers", "mobilenet_v2_symmetric", 64, 5),
    ("transformers", "efficientnet", 64, 5),
]
LABELS = [f"kind {number}" for number in range(5)]


def images(size):
    return (np.arange(size * size * 3) * 37 % 256).reshape(size, size, 3).astype(np.float64)


def value(name, shape):
    """Kernels that keep the size of values, statistics near 0 and 1."""
    signed = formula.uniform(name, int(np.prod(shape, dtype=int))) * 2.0 - 1.0
    if len(shape) in (2, 4):
        centre, width = 0.0, np.sqrt((3.0 if "pw" in name else 4.0) / float(np.prod(shape[1:])))
    elif name.endswith("running_var"):
        centre, width = 1.0, 0.5
    elif name.endswith("running_mean") or name.endswith("bias"):
        centre, width = 0.05, 0.1
    else:
        centre, width = 0.8, 0.2
    return (centre + width * signed).astype(np.float32).reshape(shape)


def network(program, name, classes):
    if program == "timm":
        model = timm.create_model(name, pretrained=False, num_classes=classes or 1000)
        return model, model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
    if program == "transformers":
        labels = {"num_labels": classes, "id2label": dict(enumerate(LABELS))}
        if name == "resnet":
            model = transformers.ResNetForImageClassification(transformers.ResNetConfig(**labels))
        elif name.startswith("mobilenet_v2"):
            # An epsilon that shows.
            settings = {"layer_norm_eps": 0.01, "tf_padding": name == "mobilenet_v2"}
            config = transformers.MobileNetV2Config(**settings, **labels)
            model = transformers.MobileNetV2ForImageClassification(config)
        elif name == "efficientnet":
            # B0, one of whose blocks pads as for maps of odd sizes.
            settings = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
            config = transformers.EfficientNetConfig(**settings, batch_norm_eps=0.01, depthwise_padding=[11], **labels)
            model = transformers.EfficientNetForImageClassification(config)
        else:
            # The epsilon of its last normalization: so large that it shows.
            config = transformers.ConvNextConfig(layer_norm_eps=0.01, **labels)
            model = transformers.ConvNextForImageClassification(config)
        return model, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    settings = {"init_weights": False} if name == "inception_v3" else {}
    model = getattr(torchvision.models, name)(weights=None, num_classes=classes or 1000, **settings)
    if name == "inception_v3":
        # Its trained weights take images scaled like the others, and rescale them to these in front.
        return model, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return model, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def golden(program, name, size, classes):
    torch.manual_seed(0)
    model, mean, deviation = network(program, name, classes)
    model.eval()
    # Without a classifier, for networks whose classifier is hundreds of megabytes.
    model = model if classes else torch.nn.Sequential(OrderedDict(features=model.features))
    state = model.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(value(key, tuple(tensor.shape))))
    scaled = (images(size) / 255 - mean) / deviation
    if (program, name) == ("transformers", "efficientnet"):
        # Its processor's `include_top`.
        scaled /= deviation
    batch = torch.from_numpy(scaled.transpose(2, 0, 1)[None].astype(np.float32))
    with torch.no_grad():
        logits = model(batch)
        logits = (logits.logits if program == "transformers" else logits)[0].double()
    if not classes:
        # Of maps, some values.
        answer = logits.flatten()
        top = list(range(0, len(answer), len(answer) // 20))
        return described(program, name, size, state, 0.0, top, answer)
    # Neither uniform nor one class.
    gain = float(6.0 / (logits.max() - logits.min()))
    answer = torch.softmax(logits * gain, 0)
    print(f"{program} {name}: logits {logits.min():.3g} to {logits.max():.3g}, probabilities to {answer.max():.3g}")
    top = [int(index) for index in answer.argsort(descending=True)[:10]]
    described_one = described(program, name, size, state, gain, top, answer)
    if program == "transformers" or name == "tf_efficientnet_b1":
        described_one |= configurations(program, name, model, mean, deviation)
    return described_one


def configurations(program, name, model, mean, deviation):
    """What the programs themselves write beside model.safetensors."""
    with tempfile.TemporaryDirectory() as folder:
        read = lambda name: json.load(open(os.path.join(folder, name)))
        if program == "timm":
            save_config_for_hf(model, os.path.join(folder, "config.json"), model_config={"label_names": LABELS})
            return {"config": read("config.json")}
        model.config.save_pretrained(folder)
        settings = {"image_mean": list(mean), "image_std": list(deviation)}
        if name.startswith("mobilenet_v2"):
            processor = transformers.MobileNetV2ImageProcessor(**settings)
        elif name == "efficientnet":
            processor = transformers.EfficientNetImageProcessor(size={"height": 224, "width": 224}, **settings)
        else:
            processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 224}, **settings)
        processor.save_pretrained(folder)
        return {"config": read("config.json"), "preprocessor": read("preprocessor_config.json")}


def described(program, name, size, state, gain, top, answer):
    return {
        "program": program,
        "name": name,
        "size": size,
        "tensors": {key: list(tensor.shape) for key, tensor in state.items() if tensor.is_floating_point()},
        "gain": gain,
        "top": top,
        "probabilities": [float(answer[index]) for index in top],
    }


def main():
    os.makedirs(OUT, exist_ok=True)
    wanted = sys.argv[1:]
    for program, name, size, classes in NETWORKS:
        if wanted and name not in wanted:
            continue
        text = json.dumps(golden(program, name, size, classes), separators=(",", ":"))
        with open(os.path.join(OUT, f"{program}_{name}.json.gz"), "wb") as target:
            with gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0, compresslevel=9) as packed:
                packed.write(text.encode())


main()
