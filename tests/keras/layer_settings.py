"""Writes tests/golden/layer_settings.json: the settings of each layer in a model's configuration, in Keras's order.

Run from the repository root, in the venv of tests/keras/layer_cases.py and after it:
    python tests/keras/layer_settings.py

A reader of configurations has to know every one of them: one that it has never heard of may change the answer.
Settings that a layer writes only where they are set come from the cases. `keras_operations` are Keras 3's functions
within models.
"""

import glob
import gzip
import json
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import tf_keras

GOLDEN = os.path.join(os.path.dirname(__file__), "..", "golden")
# What a layer cannot be made without.
LAYERS = {
    "Activation": ["relu"], "ActivityRegularization": [], "AdaptiveAveragePooling2D": [1], "AdaptiveMaxPooling2D": [1],
    "Add": [],
    "AlphaDropout": [0.5], "AugMix": [], "AutoContrast": [], "Average": [], "AveragePooling2D": [2],
    "BatchNormalization": [],
    "CenterCrop": [2, 2], "Concatenate": [], "ContrastLimitedAdaptiveHistogramEqualization": [], "Conv2D": [2, 3],
    "Conv2DTranspose": [2, 3],
    "Cropping2D": [], "CutMix": [], "Dense": [2], "DepthwiseConv2D": [3], "Dot": [1], "Dropout": [0.5], "ELU": [],
    "EinsumDense": ["ab,bc->ac", 2],
    "Equalization": [], "Flatten": [], "GaussianDropout": [0.5], "GaussianNoise": [0.5], "GlobalAveragePooling2D": [],
    "GlobalMaxPooling2D": [],
    "GroupNormalization": [], "Identity": [], "InputLayer": [(2,)], "LayerNormalization": [], "LeakyReLU": [],
    "Masking": [], "MaxPooling2D": [],
    "Maximum": [], "Minimum": [], "MixUp": [], "Multiply": [], "Normalization": [], "PReLU": [], "Permute": [(1,)],
    "RMSNormalization": [],
    "RandAugment": [], "RandomBrightness": [0.1], "RandomColorDegeneration": [0.1], "RandomColorJitter": [],
    "RandomContrast": [0.1],
    "RandomCrop": [2, 2], "RandomElasticTransform": [], "RandomErasing": [], "RandomFlip": [], "RandomGaussianBlur": [],
    "RandomGrayscale": [],
    "RandomHeight": [0.1], "RandomHue": [0.1], "RandomInvert": [], "RandomPerspective": [], "RandomPosterization": [4],
    "RandomRotation": [0.1],
    "RandomSaturation": [0.1], "RandomSharpness": [0.1], "RandomShear": [], "RandomTranslation": [0.1, 0.1],
    "RandomWidth": [0.1],
    "RandomZoom": [0.1], "ReLU": [], "RepeatVector": [2], "Rescaling": [0.5], "Reshape": [(2,)], "Resizing": [2, 2],
    "SeparableConv2D": [2, 3],
    "Softmax": [], "Solarization": [], "SpatialDropout2D": [0.5], "Subtract": [], "ThresholdedReLU": [],
    "UnitNormalization": [],
    "UpSampling2D": [], "ZeroPadding2D": [],
}


def configurations(model):
    """Every layer within a model's configuration."""
    for layer in model["config"].get("layers", []):
        yield layer
        yield from configurations(layer)


def main():
    settings = {"keras": {}, "tf_keras": {}, "keras_operations": {}}
    for key, K in (("keras", keras), ("tf_keras", tf_keras)):
        for name, arguments in LAYERS.items():
            if hasattr(K.layers, name):
                settings[key][name] = list(getattr(K.layers, name)(*arguments).get_config())
    for file in sorted(glob.glob(os.path.join(GOLDEN, "layers", "*.safetensors.gz"))):
        with gzip.open(file) as packed:
            header = json.loads(packed.read(int.from_bytes(packed.read(8), "little")))
        for case in json.loads(header["__metadata__"]["cases"]):
            for layer in configurations(case["config"]):
                name, module = layer["class_name"], layer.get("module") or ""
                if module.startswith("keras.src.ops"):
                    key = "keras_operations"
                elif name in LAYERS or name.endswith("OpLambda"):
                    key = "tf_keras" if "keras_version" in case["config"] else "keras"
                else:
                    continue
                known = settings[key].setdefault(name, [])
                known += [setting for setting in layer["config"] if setting not in known]
    settings = {key: {name: layers[name] for name in sorted(layers)} for key, layers in settings.items()}
    with open(os.path.join(GOLDEN, "layer_settings.json"), "w") as file:
        lines = [f'  {json.dumps(key)}: {{\n' + ",\n".join(f"    {json.dumps(name)}: {json.dumps(known)}" for name,
            known in layers.items()) + "\n  }" for key, layers in settings.items()]
        file.write("{\n" + ",\n".join(lines) + "\n}\n")
    print({key: len(layers) for key, layers in settings.items()})


if __name__ == "__main__":
    main()
