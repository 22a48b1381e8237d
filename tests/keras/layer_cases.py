"""Writes tests/golden/layers/: a model for every setting of every layer of image classifiers, with Keras's answers.

Run from the repository root, in a venv with `pip install tensorflow-cpu tf-keras safetensors`:
    python tests/keras/layer_cases.py

The files' format is cases.py's. A case is named by its layer and the settings that differ from the group's plain one.
What Keras 3.15 itself cannot do is left out: on a CPU without oneDNN, convolutions over channels_first and depthwise
ones with unequal strides; anywhere, Conv2D with both strides and dilation, RMSNormalization of another axis than the
last, Equalization within a model, and models with RandomShear, which it writes but does not read.
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import keras
import numpy as np

sys.path.insert(0, os.path.dirname(__file__))
from cases import fresh, spread
from layer_cases_keras2 import keras2
from layer_group import FLAT, MAP, Group, adapted, edges, pixels

L = keras.layers


def convolutions():
    ignored = dict(
        kernel_initializer=keras.initializers.HeNormal(seed=3), bias_initializer=keras.initializers.Constant(0.5),
        kernel_regularizer=keras.regularizers.L1L2(1e-4, 1e-3), bias_regularizer="l2", activity_regularizer="l1",
        kernel_constraint=keras.constraints.MaxNorm(2.0), bias_constraint="non_neg", trainable=False, name="named")
    with Group("conv") as group:
        group.vary(
            "Conv2D", dict(filters=3, kernel_size=3),
            filters=[1, 6], kernel_size=[1, 2, (3, 1), (1, 4), (7, 6)], strides=[2, (2, 1), (1, 3)], padding=["same"],
            dilation_rate=[2, (1, 2), (3, 1)], activation=["relu", "silu", "softmax"], use_bias=[False],
            together=[
                dict(strides=2, padding="same"), dict(strides=(3, 2), padding="same"),
                dict(kernel_size=2, padding="same"),
                dict(kernel_size=(4, 5), padding="same"), dict(kernel_size=1, strides=2),
                dict(kernel_size=2, strides=3),
                dict(kernel_size=1, strides=(3, 2), padding="same"), dict(kernel_size=2, strides=3, padding="same"),
                dict(dilation_rate=2, padding="same"), dict(kernel_size=2, dilation_rate=(2, 3), padding="same"),
                dict(filters=4, groups=2), dict(filters=4, groups=4), dict(filters=8, groups=4, use_bias=False),
                dict(filters=2, groups=2, strides=2, padding="same"), dict(filters=4, groups=2, dilation_rate=2),
                ignored])
        group.row("Conv2D(padding='same') on 3x3, kernel beyond the map", lambda L: L.Conv2D(2, 5, padding="same"),
                  shape=(3, 3, 2))
        group.vary(
            "DepthwiseConv2D", dict(kernel_size=3),
            kernel_size=[1, (2, 3), (5, 1)], strides=[2, (2, 2)], padding=["same"], depth_multiplier=[2, 3],
            dilation_rate=[2, (1, 2)], activation=["relu6", "tanh"], use_bias=[False],
            together=[
                dict(strides=2, padding="same"), dict(kernel_size=2, strides=3, padding="same"),
                dict(kernel_size=(4, 2), padding="same"), dict(dilation_rate=2, padding="same"),
                dict(depth_multiplier=2, strides=2, padding="same", use_bias=False),
                dict(depth_multiplier=2, dilation_rate=2),
                dict(strides=2, dilation_rate=2), dict(strides=2, dilation_rate=2, padding="same"),
                dict(depthwise_initializer="he_normal", depthwise_regularizer="l2", depthwise_constraint="unit_norm")])
        group.row("DepthwiseConv2D() on one channel", lambda L: L.DepthwiseConv2D(3, depth_multiplier=3),
                  shape=(7, 6, 1))
        group.vary(
            "SeparableConv2D", dict(filters=3, kernel_size=3),
            filters=[1, 6], kernel_size=[1, (2, 3)], strides=[2], padding=["same"], depth_multiplier=[2],
            dilation_rate=[2], activation=["relu"], use_bias=[False],
            together=[
                dict(strides=2, padding="same"), dict(dilation_rate=2, padding="same"),
                dict(strides=2, dilation_rate=2, padding="same"),
                dict(depth_multiplier=3, use_bias=False, activation="elu"),
                dict(pointwise_initializer="ones", pointwise_regularizer="l1", pointwise_constraint="non_neg")])
        group.vary("Conv2DTranspose", dict(filters=3, kernel_size=3), strides=[2], padding=["same"])


def dense():
    with Group("dense") as group:
        for shape, on in ((FLAT, ""), (MAP, " on maps")):
            group.vary("Dense", dict(units=5), shape=shape, on=on, units=[1], use_bias=[False],
                       activation=["relu", "sigmoid", "softmax", "silu"],
                       together=[dict(use_bias=False, activation="softmax")])
        group.vary("Dense", dict(units=5), shape=(3, 10), on=" on rows")
        group.row("Dense with what does not change its answer", lambda L: L.Dense(
            5, kernel_initializer="zeros", bias_initializer="ones", kernel_regularizer=keras.regularizers.L2(1e-3),
            activity_regularizer="l2", kernel_constraint="max_norm", bias_constraint="non_neg", trainable=False),
            shape=FLAT)
        group.row("Dense(lora_rank=2)", lambda L: L.Dense(5, lora_rank=2), shape=FLAT)
        group.row("Dense row of three", lambda L: L.Flatten(), lambda L: L.Dense(6, activation="gelu"),
                  lambda L: L.Dense(5, "tanh"), lambda L: L.Dense(3, "softmax"))
        group.row("EinsumDense", lambda L: L.EinsumDense("bhwc,cd->bhwd", (None, None, 5), bias_axes="d",
            activation="relu"))


def normalizations():
    with Group("normalization") as group:
        for shape, on in ((MAP, ""), (FLAT, " on flat")):
            group.vary("BatchNormalization", shape=shape, on=on, epsilon=[1e-5, 0.1], center=[False], scale=[False],
                       momentum=[0.5],
                       together=[dict(center=False, scale=False),
                                 dict(axis=-1, epsilon=0.01, momentum=0.9, center=True, scale=False)])
        group.vary("BatchNormalization", axis=[1, 2, 3], together=[dict(
            beta_initializer="ones", gamma_initializer="zeros", moving_mean_initializer="ones",
            moving_variance_initializer="zeros",
            beta_regularizer="l2", gamma_regularizer="l1", beta_constraint="non_neg", gamma_constraint="non_neg",
            trainable=False),
            dict(renorm=True), dict(synchronized=True)], on=" of axes")
        for shape, on in ((MAP, ""), (FLAT, " on flat")):
            group.vary("LayerNormalization", shape=shape, on=on, epsilon=[1e-6, 0.5], center=[False], scale=[False],
                       together=[dict(center=False, scale=False)])
        group.vary("LayerNormalization", dict(axis=[1, 2, 3]), on=" of whole maps", epsilon=[1e-6, 0.5], center=[False],
                   scale=[False],
                   together=[dict(center=False, scale=False)])
        group.vary("LayerNormalization", on=" of axes", axis=[1, 3, (1, 2), (-2, -1)], rms_scaling=[True])
        group.vary("GroupNormalization", dict(groups=2), groups=[1, 4, -1], epsilon=[1e-5, 0.5], center=[False],
                   scale=[False],
                   together=[dict(center=False, scale=False), dict(groups=3, axis=1, epsilon=1e-3)], shape=(6, 5, 4))
        group.vary("GroupNormalization", dict(groups=2), shape=FLAT, on=" on flat")
        group.vary("UnitNormalization", axis=[1, 2, (1, 2), (1, 2, 3)])
        group.vary("UnitNormalization", shape=FLAT, on=" on flat")
        group.vary("RMSNormalization", epsilon=[1e-3])
        given = dict(mean=[0.5, -0.25, 1.0, 0.0], variance=[0.25, 1.5, 2.0, 0.5])
        group.vary("Normalization", given, invert=[True], together=[
            dict(axis=None, mean=0.5, variance=4.0), dict(axis=None, mean=0.5, variance=4.0, invert=True),
            dict(mean=0.5, variance=4.0), dict(variance=[0.0, 1e-20, 1.0, 1.0])])
        group.vary("Normalization", dict(mean=[0.5, 0.0, 1.0, -1.0, 2.0, -0.5], variance=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                                         axis=2), on=" of columns")
        group.vary("Normalization", dict(mean=[0.0] * 5 + [1.0] * 5, variance=[1.0] * 3 + [2.0] * 7), shape=FLAT,
                   on=" on flat")
        group.row("Normalization of one's own statistics", lambda L: adapted(L.Normalization()))
        group.row("Normalization(axis=None) of one's own statistics", lambda L: adapted(L.Normalization(axis=None)))
        group.row("SpectralNormalization of Dense", lambda L: L.SpectralNormalization(L.Dense(3)), shape=FLAT)


def rescaling():
    with Group("rescaling") as group:
        bytes3 = pixels((4, 3, 3))
        group.vary("Rescaling", dict(scale=1 / 255), inputs=bytes3, scale=[2, 1 / 127.5, -0.5], offset=[-1, 0.5],
                   together=[
            dict(scale=1 / 127.5, offset=-1), dict(scale=[0.5, 1.0, 2.0]), dict(offset=[-1.0, 0.0, 1.0]),
            dict(scale=[1 / 58.4, 1 / 57.1, 1 / 57.4], offset=[-2.1, -2.0, -1.8]),
            dict(scale=(0.25, 0.5, 0.75), offset=0)])
        group.row("Rescaling(scale=np.array)", lambda L: L.Rescaling(np.array([0.5, 1.0, 2.0]),
            np.array([0.0, 0.1, 0.2])), inputs=bytes3)
        group.row("Rescaling on flat", lambda L: L.Rescaling(0.5, 1.0), shape=FLAT)


def resizing():
    """A line of colours would hide what interpolations do at edges, so pixels are noise."""
    with Group("resizing") as group:
        sizes = {"larger": (11, 9), "smaller": (4, 3), "smaller by halves": (3, 3), "mixed": (9, 4), "same": (7, 6),
                 "one": (1, 1)}
        small = pixels((7, 6, 2))
        for interpolation in ("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5"):
            for on, (height, width) in sizes.items():
                plain = dict(height=height, width=width, interpolation=interpolation)
                name = f"Resizing({height}, {width}, interpolation='{interpolation}'"
                image = pixels((6, 6, 2)) if on == "smaller by halves" else small
                group.row(name + f") {on}", lambda L: L.Resizing(**plain), inputs=image)
                if on in ("larger", "smaller", "mixed"):
                    group.row(name + f", antialias=True) {on}", lambda L: L.Resizing(antialias=True, **plain),
                              inputs=image)
        for interpolation in ("nearest", "bilinear", "bicubic", "area"):
            for on, (height, width) in {**sizes, "wide": (3, 10), "tall": (12, 5)}.items():
                plain = dict(height=height, width=width, interpolation=interpolation)
                name = f"Resizing({height}, {width}, interpolation='{interpolation}'"
                if interpolation == "bilinear" or on in ("wide", "tall"):
                    group.row(name + f", crop_to_aspect_ratio=True) {on}",
                              lambda L: L.Resizing(crop_to_aspect_ratio=True, **plain), inputs=small)
                    group.row(name + f", pad_to_aspect_ratio=True) {on}",
                              lambda L: L.Resizing(pad_to_aspect_ratio=True, **plain), inputs=small)
        group.row("Resizing(8, 4, pad_to_aspect_ratio=True, fill_value=7.5)",
                  lambda L: L.Resizing(8, 4, pad_to_aspect_ratio=True, fill_value=7.5), inputs=small)
        group.row("Resizing(4, 8, pad_to_aspect_ratio=True, fill_value=7.5)",
                  lambda L: L.Resizing(4, 8, pad_to_aspect_ratio=True, fill_value=7.5), inputs=small)
        group.row("Resizing(4, 8, crop_to_aspect_ratio=True, antialias=True)",
                  lambda L: L.Resizing(4, 8, crop_to_aspect_ratio=True, antialias=True), inputs=small)
        group.row("Resizing(5, 5, data_format='channels_first')", lambda L: L.Permute((3, 1, 2)),
                  lambda L: L.Resizing(5, 5, data_format="channels_first"), inputs=small)
        group.row("Resizing of 17x13 to 5x4", lambda L: L.Resizing(5, 4), inputs=pixels((17, 13, 1)))
        group.row("Resizing of 17x13 to 5x4, antialias=True", lambda L: L.Resizing(5, 4, antialias=True),
                  inputs=pixels((17, 13, 1)))


def shapes():
    with Group("shapes") as group:
        for size in ((4, 3), (3, 4), (7, 6), (5, 6), (2, 1), (9, 8), (9, 4), (4, 9), (12, 6)):
            group.row(f"CenterCrop{size}", lambda L: L.CenterCrop(*size))
        group.vary("ZeroPadding2D", padding=[0, 2, (1, 2), ((1, 2), (3, 0)), ((0, 1), (0, 1))])
        group.vary("Cropping2D", cropping=[1, (1, 2), ((1, 2), (3, 0)), ((0, 0), (0, 5))])
        for layer in ("MaxPooling2D", "AveragePooling2D"):
            group.vary(
                layer, dict(pool_size=2), pool_size=[1, 3, (3, 2), (7, 6)], strides=[1, 3, (2, 1), (1, 3)],
                padding=["same"],
                together=[
                    dict(strides=1, padding="same"), dict(pool_size=3, strides=2, padding="same"),
                    dict(pool_size=3, strides=1, padding="same"),
                    dict(pool_size=3, strides=2), dict(pool_size=(3, 2), strides=(2, 3), padding="same"),
                    dict(pool_size=1, strides=2),
                    dict(pool_size=5, strides=4, padding="same"),
                    dict(pool_size=(1, 4), strides=(3, 1), padding="same")])
            group.row(f"{layer}(data_format='channels_first')", lambda L: L.Permute((3, 1, 2)),
                      lambda L: getattr(L, layer)(2, 2, "same", data_format="channels_first"))
        for layer in ("GlobalAveragePooling2D", "GlobalMaxPooling2D"):
            group.vary(layer, keepdims=[True], data_format=["channels_first"])
        for layer in ("AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D"):
            group.vary(layer, dict(output_size=1), output_size=[(3, 2), (4, 5)])
        group.vary("UpSampling2D", size=[(3, 1)], interpolation=["bilinear"])
        group.vary("Flatten", data_format=["channels_first"])
        group.vary("Flatten", shape=FLAT, on=" on flat")
        group.vary("Reshape", dict(target_shape=(168,)),
                   target_shape=[(-1,), (12, 14), (14, 3, 4), (-1, 6, 2), (2, -1, 3), (1, 1, 168), (7, 6, 4)])
        group.vary("Reshape", dict(target_shape=(1, 1, 10)), shape=FLAT, on=" of flat",
                   target_shape=[(5, 2), (1, -1, 5)])
        group.vary("Permute", dict(dims=(2, 1, 3)), dims=[(3, 1, 2), (1, 2, 3), (3, 2, 1), (2, 3, 1)])
        group.vary("RepeatVector", dict(n=3), shape=FLAT)


ARGUMENTS = {"threshold": dict(threshold=1.0, default_value=-2.0)}


def activations():
    x = edges()
    names = sorted(set(keras.src.activations.ALL_OBJECTS_DICT) | {"swish", "hard_swish"})
    with Group("activations") as group:
        for name in names:
            if name in ARGUMENTS:
                continue
            group.row(f"Activation({name!r})", lambda L: L.Activation(name), inputs=x)
            group.row(f"Activation({name!r}) on flat", lambda L: L.Activation(name), inputs=edges((24,)))
            group.row(f"Dense(activation={name!r})", lambda L: L.Dense(6, activation=name), shape=FLAT)
        for name in ("gelu", "leaky_relu", "hard_silu", "relu6"):
            function = getattr(keras.activations, name)
            group.row(f"Activation(keras.activations.{name})", lambda L: L.Activation(function), inputs=x)
        for name, make in {
            "LeakyReLU(0.1)": lambda L: L.LeakyReLU(negative_slope=0.1), "ReLU(6)": lambda L: L.ReLU(6.0),
            "ELU(0.5)": lambda L: L.ELU(0.5), "Softmax(1)": lambda L: L.Softmax(axis=1),
        }.items():
            group.row(f"Conv2D(activation={name})", lambda L: L.Conv2D(3, 2, activation=make(L)), inputs=x)
        group.row("Activation(ReLU(6))", lambda L: L.Activation(L.ReLU(6.0)), inputs=x)
        group.vary("ReLU", inputs=x, max_value=[6.0, 1.0, 0.0, 6], negative_slope=[0.1, 1.0], threshold=[1.0, 0.5],
                   together=[
            dict(max_value=6.0, negative_slope=0.2), dict(max_value=6.0, threshold=1.0),
            dict(negative_slope=0.2, threshold=1.0),
            dict(max_value=2.5, negative_slope=0.25, threshold=0.5),
            dict(max_value=6.0, negative_slope=0.2, threshold=1.0)])
        group.vary("LeakyReLU", inputs=x, negative_slope=[0.0, 0.01, 0.2, 1.0])
        group.vary("PReLU", inputs=x, shared_axes=[[1, 2], [1], [3], [2, 3], [1, 2, 3], (1, 2)],
                   together=[dict(alpha_initializer="ones", alpha_regularizer="l2", alpha_constraint="non_neg")])
        group.vary("PReLU", inputs=edges((24,)), on=" on flat")
        group.vary("ELU", inputs=x, alpha=[0.5, 2.0, 0.0])
        group.vary("Softmax", inputs=x, axis=[1, 2, 3, -2, (1, 2), [1, 2, 3]])
        group.vary("Softmax", inputs=edges((24,)), on=" on flat")


def merging():
    half = lambda x: L.Rescaling(-0.5, 0.75)(x)
    third = lambda x: L.Rescaling(1.5, -1.0)(x)
    squeezed = lambda x: L.GlobalAveragePooling2D(keepdims=True)(half(x))
    flat = lambda x: L.GlobalAveragePooling2D()(half(x))
    column = lambda x: L.AveragePooling2D((1, 6))(x)
    one = lambda x: L.Conv2D(1, 1)(x)
    with Group("merging") as group:
        for layer in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"):
            merge = getattr(L, layer)
            group.graph(f"{layer} of two", lambda x: merge()([x, half(x)]))
            group.graph(f"{layer} of a map and a pixel", lambda x: merge()([x, squeezed(x)]))
            group.graph(f"{layer} of a pixel and a map", lambda x: merge()([squeezed(x), x]))
            group.graph(f"{layer} of a map and a channel", lambda x: merge()([x, one(x)]))
            group.graph(f"{layer} of a map and a vector", lambda x: merge()([x, flat(x)]))
            group.graph(f"{layer} of vectors", lambda x: merge()([x, half(x)]), shape=FLAT)
            if layer != "Subtract":
                group.graph(f"{layer} of three", lambda x: merge()([x, half(x), third(x)]))
                group.graph(f"{layer} of the same twice", lambda x: merge()([x, x, half(x)]))
                group.graph(f"{layer} of a pixel, a column and a map", lambda x: merge()([squeezed(x), column(x), x]))
        group.graph("keras.layers.add", lambda x: L.add([x, half(x)]))
        group.graph("Concatenate of two", lambda x: L.Concatenate()([x, half(x)]))
        group.graph("Concatenate of three", lambda x: L.Concatenate()([x, one(x), third(x)]))
        for axis in (1, 2, 3, -1, -2, -3):
            group.graph(f"Concatenate(axis={axis})", lambda x: L.Concatenate(axis=axis)([x, half(x)]))
        group.graph("Concatenate(axis=1) of different heights",
                    lambda x: L.Concatenate(axis=1)([x, L.Cropping2D(((1, 2), (0, 0)))(x)]))
        group.graph("Concatenate of vectors", lambda x: L.Concatenate()([x, half(x), L.Dense(3)(x)]), shape=FLAT)
        group.graph("Concatenate(axis=1) of vectors",
                    lambda x: L.Concatenate(axis=1)([flat(x), L.GlobalMaxPooling2D()(x)]))
        group.graph("Dot of vectors", lambda x: L.Dot(axes=1, normalize=True)([x, half(x)]), shape=FLAT)


def inference():
    """Layers that training alone knows: at inference they have to leave values alone, or do what the case shows."""
    with Group("inference") as group:
        group.vary("Dropout", dict(rate=0.5), rate=[0, 0.9], seed=[3], noise_shape=[(None, 1, 1, 4)])
        group.vary("SpatialDropout2D", dict(rate=0.5))
        group.vary("AlphaDropout", dict(rate=0.5))
        group.vary("GaussianNoise", dict(stddev=0.5))
        group.vary("GaussianDropout", dict(rate=0.5))
        group.vary("ActivityRegularization", dict(l1=0.1, l2=0.2))
        group.vary("Identity")
        group.vary("Masking", dict(mask_value=0.0), shape=(5, 4))
        image = pixels((6, 8, 3))
        plain = {
            "RandomFlip": {}, "RandomRotation": dict(factor=0.2),
            "RandomZoom": dict(height_factor=0.2, width_factor=0.1),
            "RandomContrast": dict(factor=0.3), "RandomBrightness": dict(factor=0.3),
            "RandomTranslation": dict(height_factor=0.2, width_factor=(-0.1, 0.3)), "RandomHue": dict(factor=0.3),
            "RandomSaturation": dict(factor=0.3), "RandomSharpness": dict(factor=0.3),
            "RandomColorDegeneration": dict(factor=0.3),
            "RandomColorJitter": dict(brightness_factor=0.3, contrast_factor=0.2, saturation_factor=0.1,
                                      hue_factor=0.1),
            "RandomElasticTransform": {}, "RandomErasing": {}, "RandomGaussianBlur": {}, "RandomGrayscale": {},
            "RandomInvert": {},
            "RandomPerspective": {}, "RandomPosterization": dict(factor=4), "RandAugment": {}, "AugMix": {},
            "CutMix": {}, "MixUp": {},
            "Solarization": {}, "AutoContrast": {},
            "ContrastLimitedAdaptiveHistogramEqualization": dict(tile_grid_size=(2, 2)),
        }
        for layer, settings in plain.items():
            group.vary(layer, settings, inputs=image)
        group.row("RandomFlip, RandomRotation, RandomZoom", lambda L: L.RandomFlip("horizontal", seed=7),
                  lambda L: L.RandomRotation(0.1),
                  lambda L: L.RandomZoom(0.1, fill_mode="nearest", interpolation="nearest"), inputs=image)
        for size in ((4, 5), (6, 8), (3, 8), (4, 8), (9, 12), (12, 5), (2, 9)):
            group.row(f"RandomCrop{size}", lambda L: L.RandomCrop(*size), inputs=image)


def operators():
    """What a model of Keras 3 holds where its author wrote arithmetic."""
    ops = keras.ops
    half = lambda x: L.Rescaling(-0.5, 0.75)(x)
    vector = np.array([0.5, -1.0, 2.0, 4.0], np.float32)
    applications = keras.applications
    cases = {
        "x + c": lambda x: x + 1.5, "c + x": lambda x: 1.5 + x, "x - c": lambda x: x - 1.5, "c - x": lambda x: 1.5 - x,
        "x * c": lambda x: x * 1.5, "c * x": lambda x: 1.5 * x, "x / c": lambda x: x / 1.5,
        "c / x": lambda x: 1.5 / (x + 4.0),
        "-x": lambda x: -x, "abs(x)": lambda x: abs(x), "x ** 2": lambda x: x**2,
        "(x + 4) ** 0.5": lambda x: (x + 4) ** 0.5,
        "x + 2": lambda x: x + 2, "x // 2": lambda x: x // 2, "x % 2": lambda x: x % 2,
        "x + vector": lambda x: x + vector, "vector - x": lambda x: ops.subtract(vector, x),
        "x * vector": lambda x: x * vector,
        "x / vector": lambda x: x / vector, "x * np.float32": lambda x: x * np.float32(1.5),
        "x + y": lambda x: x + half(x), "x - y": lambda x: x - half(x), "x * y": lambda x: x * half(x),
        "x / y": lambda x: x / (half(x) + 4.0),
        "x * squeezed": lambda x: x * L.GlobalAveragePooling2D(keepdims=True)(x), "x + x": lambda x: x + x,
        "x[..., ::-1]": lambda x: x[..., ::-1], "x[:, 1:5, ::2, :]": lambda x: x[:, 1:5, ::2, :],
        "x[:, 0, 0]": lambda x: x[:, 0, 0],
        "x[..., None]": lambda x: x[..., None][..., 0],
        "ops.add": lambda x: ops.add(x, half(x)), "ops.subtract": lambda x: ops.subtract(x, half(x)),
        "ops.multiply": lambda x: ops.multiply(x, half(x)), "ops.divide": lambda x: ops.divide(x, 2.5),
        "ops.true_divide": lambda x: ops.true_divide(x, 2.5), "ops.negative": lambda x: ops.negative(x),
        "ops.maximum": lambda x: ops.maximum(x, half(x)), "ops.maximum(x, 0.5)": lambda x: ops.maximum(x, 0.5),
        "ops.minimum": lambda x: ops.minimum(x, half(x)), "ops.minimum(x, 0.5)": lambda x: ops.minimum(x, 0.5),
        "ops.clip": lambda x: ops.clip(x, -1.0, 2.0), "ops.cast to float16": lambda x: ops.cast(x, "float16"),
        "ops.cast to float32": lambda x: ops.cast(x, "float32"), "ops.cast to int32": lambda x: ops.cast(x, "int32"),
        "ops.cast to int32 and back": lambda x: ops.cast(ops.cast(x, "int32"), "float32") * 0.5,
        "ops.square": lambda x: ops.square(x), "ops.sqrt": lambda x: ops.sqrt(x + 4.0),
        "ops.rsqrt": lambda x: ops.rsqrt(x + 4.0),
        "ops.exp": lambda x: ops.exp(x), "ops.log": lambda x: ops.log(x + 4.0), "ops.abs": lambda x: ops.abs(x),
        "ops.power": lambda x: ops.power(x + 4.0, 1.5), "ops.relu": lambda x: ops.relu(x),
        "ops.relu6": lambda x: ops.relu6(3.0 * x),
        "ops.leaky_relu": lambda x: ops.leaky_relu(x, 0.1), "ops.elu": lambda x: ops.elu(x),
        "ops.selu": lambda x: ops.selu(x),
        "ops.celu": lambda x: ops.celu(x, 0.5), "ops.gelu": lambda x: ops.gelu(x),
        "ops.gelu(approximate=False)": lambda x: ops.gelu(x, approximate=False),
        "ops.silu": lambda x: ops.silu(x), "ops.hard_silu": lambda x: ops.hard_silu(2.0 * x),
        "ops.sigmoid": lambda x: ops.sigmoid(x),
        "ops.hard_sigmoid": lambda x: ops.hard_sigmoid(2.0 * x), "ops.tanh": lambda x: ops.tanh(x),
        "ops.softplus": lambda x: ops.softplus(x),
        "ops.softsign": lambda x: ops.softsign(x), "ops.softmax": lambda x: ops.softmax(x),
        "ops.softmax(axis=1)": lambda x: ops.softmax(x, axis=1),
        "ops.log_softmax": lambda x: ops.log_softmax(x),
        "ops.mean of rows and columns": lambda x: ops.mean(x, axis=(1, 2)),
        "ops.mean(keepdims=True)": lambda x: ops.mean(x, axis=[1, 2], keepdims=True),
        "ops.max of rows and columns": lambda x: ops.max(x, axis=(1, 2)),
        "ops.sum of channels": lambda x: ops.sum(x, axis=-1),
        "ops.concatenate": lambda x: ops.concatenate([x, half(x)], axis=-1),
        "ops.stack": lambda x: ops.stack([x, half(x)], axis=1), "ops.reshape": lambda x: ops.reshape(x, (-1, 6, 28)),
        "ops.transpose": lambda x: ops.transpose(x, (0, 3, 1, 2)),
        "ops.squeeze": lambda x: ops.squeeze(L.GlobalMaxPooling2D(keepdims=True)(x), axis=(1, 2)),
        "ops.expand_dims": lambda x: ops.expand_dims(x, 1),
        "ops.pad": lambda x: ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
        "ops.pad(mode='reflect')": lambda x: ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]], mode="reflect"),
        "ops.normalize": lambda x: ops.normalize(x, axis=-1), "ops.where": lambda x: ops.where(x > 0.5, x, half(x)),
        "ops.image.resize": lambda x: ops.image.resize(x, (5, 9)),
        "ops.matmul": lambda x: ops.matmul(x, np.eye(4, 3, dtype=np.float32)),
        "ops.average_pool": lambda x: ops.average_pool(x, 2, 1, "same"),
        "ops.max_pool": lambda x: ops.max_pool(x, 3, 2, "same"),
        "ops.split": lambda x: ops.split(x, 2, axis=-1)[1], "ops.flip": lambda x: ops.flip(x, axis=2),
        "h-swish spelt out": lambda x: x * ops.relu6(x + 3.0) / 6.0,
        "h-swish of layers": lambda x: L.Multiply()([x, L.Rescaling(1 / 6)(L.ReLU(6.0)(x + 3.0))]),
    }
    with Group("operators") as group:
        for name, call in cases.items():
            group.graph(name, call)
        image = pixels((4, 3, 3))
        for network in ("mobilenet_v2", "resnet", "densenet", "vgg16", "xception", "nasnet"):
            group.graph(f"{network}.preprocess_input", lambda x: getattr(applications, network).preprocess_input(x),
                        inputs=image)
        mean, deviation = np.array([123.7, 116.3, 103.5]), np.array([58.4, 57.1, 57.4])
        group.graph("x / 127.5 - 1", lambda x: x / 127.5 - 1, inputs=image)
        group.graph("(x - mean) / deviation", lambda x: (x - mean) / deviation, inputs=image)


def layouts():
    """How layers are put together, and the types that values have on the way."""
    def nested(x):
        inner = keras.Input((7, 6, 4))
        branch = keras.Model(inner, L.Add()([inner, L.Conv2D(4, 3, padding="same")(inner)]), name="branch")
        return keras.Sequential([L.ReLU(), L.Conv2D(2, 1)], name="row")(branch(x, training=False))

    def shared(x):
        conv = L.Conv2D(4, 3, padding="same", activation="relu")
        return conv(conv(x))

    def siamese(x):
        norm = L.BatchNormalization()
        return L.Subtract()([norm(x), norm(L.ReLU()(x))])

    def twice(x):
        inner = keras.Input((7, 6, 4))
        branch = keras.Model(inner, L.Conv2D(4, 1)(L.BatchNormalization()(inner)))
        return branch(branch(x))

    def unused(x):
        y = L.Conv2D(2, 1)(x)
        L.Dense(3)(y)
        return y

    def two_outputs(x):
        inner = keras.Input((7, 6, 4))
        branch = keras.Model(inner, [L.Conv2D(3, 1)(inner), L.MaxPooling2D(1)(inner)])
        first, second = branch(x)
        return L.Concatenate()([second, first])

    def attention(x):
        squeezed = L.Reshape((1, 1, 4))(L.GlobalAveragePooling2D()(x))
        gate = L.Dense(4, activation="sigmoid")(L.Dense(2, activation="relu")(squeezed))
        return L.Multiply()([x, gate])

    with Group("layouts") as group:
        for name, call in {
            "model within model": nested, "one layer in a row twice": shared, "one layer over two tensors": siamese,
            "one model twice": twice,
            "a branch that no output needs": unused, "a model within of two outputs": two_outputs,
            "squeeze and excitation": attention,
            "training=False": lambda x: L.BatchNormalization()(L.Dropout(0.5)(x, training=False), training=False),
            "BatchNormalization called with training=True": lambda x: L.BatchNormalization()(x, training=True),
            "a tensor by its keyword": lambda x: L.Conv2D(2, 1)(inputs=x), "the input itself": lambda x: x,
            "an output that another layer takes": lambda x: (lambda y: (L.ReLU()(y), y)[1])(L.Conv2D(2, 1)(x)),
        }.items():
            group.graph(name, call)
        group.row("Sequential in Sequential", lambda L: keras.Sequential([L.Conv2D(3, 3), L.BatchNormalization()]),
                  lambda L: keras.Sequential([L.ReLU(), L.Flatten()]), lambda L: L.Dense(2))
        fresh()
        late = keras.Sequential([L.Conv2D(2, 3, input_shape=(7, 6, 4)), L.Flatten(), L.Dense(3)])
        group.add("Sequential with its shape on its first layer", late)
        fresh()
        built = keras.Sequential([L.Conv2D(2, 3), L.Flatten(), L.Dense(3)])
        built.build((None, 7, 6, 4))
        group.add("Sequential built later", built)
        fresh()
        x = keras.Input(batch_shape=(2, 7, 6, 4), name="pictures")
        group.add("a batch of two and no other", keras.Model(x, L.Conv2D(2, 1)(x), name="my_model"))
        fresh()
        x = keras.Input((None, None, 4))
        group.add("any size of picture", keras.Model(x, L.GlobalAveragePooling2D()(L.Conv2D(3, 3, 2, "same")(x))),
                  spread("input/any", (2, 9, 8, 4)))
        for dtype in ("float64", "float16", "mixed_float16", "mixed_bfloat16"):
            group.row(f"Conv2D and Dense in {dtype}", lambda L: L.Conv2D(3, 3, activation="relu", dtype=dtype),
                      lambda L: L.Flatten(), lambda L: L.Dense(4, dtype=dtype),
                      lambda L: L.Activation("softmax", dtype="float32"))
        fresh()
        x = keras.Input((4, 3, 3), dtype="uint8")
        group.add("a picture of bytes", keras.Model(x, L.Rescaling(1 / 127.5, -1)(x)), pixels((4, 3, 3)))
        convnext = sys.modules["keras.src.applications.convnext"]
        group.row("LayerScale of ConvNeXt", lambda L: convnext.LayerScale(0.1, 4))
        group.row("StochasticDepth of ConvNeXt", lambda L: convnext.StochasticDepth(0.3))
        inception_resnet = sys.modules["keras.src.applications.inception_resnet_v2"]
        group.graph("CustomScaleLayer of Inception-ResNet",
                    lambda x: inception_resnet.CustomScaleLayer(0.17)([x, L.Conv2D(4, 3, padding="same")(x)]))


def main():
    for write in (convolutions, dense, normalizations, rescaling, resizing, shapes, activations, merging, inference,
                  operators, layouts, keras2):
        write()


if __name__ == "__main__":
    main()
