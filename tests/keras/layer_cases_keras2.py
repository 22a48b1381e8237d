"""The part of layer_cases.py that is Keras 2's: its layouts, its activations, and TensorFlow's functions as layers."""

import numpy as np
import tensorflow as tf
import tf_keras

from cases import fresh
from layer_group import FLAT, Group, adapted, edges, pixels


def keras2():
    K, L = tf_keras, tf_keras.layers
    x = edges()
    with Group("tf_keras", tf_keras) as group:
        names = [name for name in dir(K.activations) if callable(getattr(K.activations,
            name)) and name not in ("deserialize", "get", "serialize")]
        for name in sorted(set(names) | {"swish", "silu", "relu6", "leaky_relu", "log_softmax"}):
            group.row(f"Activation({name!r})", lambda L: L.Activation(name), inputs=x)
            group.row(f"Dense(activation={name!r})", lambda L: L.Dense(6, activation=name), shape=FLAT)
        for name in ("relu6", "leaky_relu", "silu", "gelu"):
            function = getattr(tf.nn, name)
            group.row(f"Activation(tf.nn.{name})", lambda L: L.Activation(function), inputs=x)
        group.row("Conv2D(activation=LeakyReLU(0.1))", lambda L: L.Conv2D(3, 2, activation=L.LeakyReLU(0.1)), inputs=x)
        group.vary("ReLU", inputs=x, max_value=[6.0, 1.0], negative_slope=[0.1], threshold=[1.0], together=[
            dict(max_value=6.0, negative_slope=0.2), dict(max_value=6.0, threshold=1.0),
            dict(negative_slope=0.2, threshold=1.0),
            dict(max_value=6.0, negative_slope=0.2, threshold=1.0)])
        group.vary("LeakyReLU", inputs=x, alpha=[0.1])
        group.vary("ThresholdedReLU", inputs=x, theta=[0.5])
        group.vary("PReLU", inputs=x, shared_axes=[[1, 2]])
        group.vary("ELU", inputs=x, alpha=[0.5])
        group.vary("Softmax", inputs=x, axis=[1, (1, 2)])
        group.vary("Conv2D", dict(filters=4, kernel_size=3), strides=[(2, 1)], padding=["same"], dilation_rate=[2],
                   groups=[2], use_bias=[False],
                   together=[dict(strides=2, padding="same", activation="relu", kernel_regularizer="l2",
                                  kernel_initializer="he_normal")])
        group.vary("DepthwiseConv2D", dict(kernel_size=3), depth_multiplier=[2], strides=[2], padding=["same"],
                   dilation_rate=[2], use_bias=[False],
                   together=[dict(strides=2, padding="same", activation="relu")])
        group.vary("SeparableConv2D", dict(filters=3, kernel_size=3), depth_multiplier=[2], padding=["same"],
                   use_bias=[False])
        group.vary("Conv2DTranspose", dict(filters=3, kernel_size=3))
        group.vary("Dense", dict(units=5), shape=FLAT, use_bias=[False])
        group.vary("Dense", dict(units=5), on=" on maps")
        group.vary("BatchNormalization", epsilon=[1e-5], center=[False], scale=[False], momentum=[0.5], axis=[1])
        group.vary("BatchNormalization", shape=FLAT, on=" on flat")
        group.vary("LayerNormalization", epsilon=[1e-6], center=[False], scale=[False], axis=[[1, 2, 3]])
        group.vary("GroupNormalization", dict(groups=2), groups=[-1], epsilon=[0.1], center=[False], scale=[False])
        group.vary("UnitNormalization")
        group.vary("Normalization", dict(mean=[0.5, -0.25, 1.0, 0.0], variance=[0.25, 1.5, 2.0, 0.5]), invert=[True],
                   together=[dict(axis=None, mean=0.5, variance=4.0)])
        group.row("Normalization of one's own statistics", lambda L: adapted(L.Normalization()))
        group.vary("Rescaling", dict(scale=1 / 127.5), offset=[-1], scale=[[0.5, 1.0, 2.0, 3.0]])
        image = pixels((7, 6, 2))
        for interpolation in ("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5", "gaussian",
                              "mitchellcubic"):
            for size in ((11, 9), (4, 3)):
                group.row(f"Resizing({size[0]}, {size[1]}, {interpolation!r})",
                          lambda L: L.Resizing(*size, interpolation), inputs=image)
        for size in ((4, 8), (8, 4)):
            group.row(f"Resizing({size[0]}, {size[1]}, crop_to_aspect_ratio=True)",
                      lambda L: L.Resizing(*size, crop_to_aspect_ratio=True), inputs=image)
        for size in ((4, 3), (9, 8), (9, 4), (5, 6)):
            group.row(f"CenterCrop{size}", lambda L: L.CenterCrop(*size))
        group.vary("ZeroPadding2D", padding=[((1, 2), (3, 0))])
        group.vary("Cropping2D", cropping=[((1, 2), (3, 0))])
        for layer in ("MaxPooling2D", "AveragePooling2D"):
            group.vary(layer, strides=[1, (1, 3)], pool_size=[3], padding=["same"],
                       together=[dict(pool_size=3, strides=2, padding="same")])
        for layer in ("GlobalAveragePooling2D", "GlobalMaxPooling2D"):
            group.vary(layer, keepdims=[True])
        group.vary("UpSampling2D", interpolation=["bilinear"])
        group.vary("Flatten", data_format=["channels_first"])
        group.vary("Reshape", dict(target_shape=(-1,)), target_shape=[(14, -1, 4)])
        group.vary("Permute", dict(dims=(3, 1, 2)))
        for layer in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"):
            group.graph(f"{layer} of two", lambda x: getattr(L, layer)()([x, L.Rescaling(-0.5, 0.75)(x)]))
        group.graph("Multiply of a map and a pixel",
                    lambda x: L.Multiply()([x, L.GlobalAveragePooling2D(keepdims=True)(x)]))
        group.graph("Multiply of a map and a vector", lambda x: L.Multiply()([x, L.GlobalAveragePooling2D()(x)]))
        for layer, settings in {
            "Dropout": dict(rate=0.5), "SpatialDropout2D": dict(rate=0.5), "AlphaDropout": dict(rate=0.5),
            "GaussianNoise": dict(stddev=0.5),
            "GaussianDropout": dict(rate=0.5), "ActivityRegularization": dict(l1=0.1), "Identity": {}, "RandomFlip": {},
            "RandomRotation": dict(factor=0.2),
            "RandomZoom": dict(height_factor=0.2), "RandomContrast": dict(factor=0.3),
            "RandomBrightness": dict(factor=0.3),
            "RandomTranslation": dict(height_factor=0.2, width_factor=0.2), "RandomHeight": dict(factor=0.2),
            "RandomWidth": dict(factor=0.2),
        }.items():
            group.vary(layer, settings, inputs=pixels((6, 8, 3)))
        for size in ((4, 5), (6, 8), (9, 12), (2, 9)):
            group.row(f"RandomCrop{size}", lambda L: L.RandomCrop(*size), inputs=pixels((6, 8, 3)))
        half = lambda x: L.Rescaling(-0.5, 0.75)(x)
        vector = np.array([0.5, -1.0, 2.0, 4.0], np.float32)
        for name, call in {
            "x + c": lambda x: x + 1.5, "c + x": lambda x: 1.5 + x, "x - c": lambda x: x - 1.5,
            "c - x": lambda x: 1.5 - x, "x * c": lambda x: x * 1.5,
            "c * x": lambda x: 1.5 * x, "x / c": lambda x: x / 1.5, "c / x": lambda x: 1.5 / (x + 4.0),
            "-x": lambda x: -x, "x ** 2": lambda x: x**2,
            "x + vector": lambda x: x + vector, "vector - x": lambda x: vector - x, "x * vector": lambda x: x * vector,
            "x + y": lambda x: x + half(x),
            "x - y": lambda x: x - half(x), "x * y": lambda x: x * half(x), "x / y": lambda x: x / (half(x) + 4.0),
            "x[..., ::-1]": lambda x: x[..., ::-1],
            "x[:, 1:5, ::2, :]": lambda x: x[:, 1:5, ::2, :], "tf.math.add": lambda x: tf.math.add(x, 1.5),
            "tf.math.add(x, y)": lambda x: tf.math.add(x, half(x)),
            "tf.math.subtract": lambda x: tf.math.subtract(x, 1.5),
            "tf.math.subtract(c, x)": lambda x: tf.math.subtract(1.5, x),
            "tf.math.multiply": lambda x: tf.math.multiply(x, vector),
            "tf.math.truediv": lambda x: tf.math.truediv(x, 1.5),
            "tf.math.divide": lambda x: tf.math.divide(x, 1.5), "tf.math.negative": lambda x: tf.math.negative(x),
            "tf.math.maximum": lambda x: tf.math.maximum(x, 0.5),
            "tf.math.minimum": lambda x: tf.math.minimum(x, half(x)), "tf.math.square": lambda x: tf.math.square(x),
            "tf.math.sqrt": lambda x: tf.math.sqrt(x + 4.0),
            "tf.nn.relu": lambda x: tf.nn.relu(x), "tf.nn.relu6": lambda x: tf.nn.relu6(3.0 * x),
            "tf.nn.leaky_relu": lambda x: tf.nn.leaky_relu(x, alpha=0.1),
            "tf.nn.silu": lambda x: tf.nn.silu(x), "tf.nn.swish(beta)": lambda x: tf.nn.swish(x, 2.0),
            "tf.nn.gelu": lambda x: tf.nn.gelu(x, approximate=True),
            "tf.nn.softmax": lambda x: tf.nn.softmax(x), "tf.nn.softmax(axis=1)": lambda x: tf.nn.softmax(x, axis=1),
            "tf.sigmoid": lambda x: tf.sigmoid(x),
            "tf.tanh": lambda x: tf.tanh(x), "tf.cast to float16": lambda x: tf.cast(x, tf.float16),
            "tf.cast to float32": lambda x: tf.cast(x, tf.float32),
            "tf.cast to int32 and back": lambda x: tf.cast(tf.cast(x, "int32"), "float32"),
            "tf.clip_by_value": lambda x: tf.clip_by_value(x, -1.0, 2.0),
            "tf.concat": lambda x: tf.concat([x, half(x)], axis=-1), "tf.reshape": lambda x: tf.reshape(x, (-1, 6, 28)),
            "tf.transpose": lambda x: tf.transpose(x, (0, 3, 1, 2)),
            "tf.reduce_mean": lambda x: tf.reduce_mean(x, axis=[1, 2]),
            "tf.reduce_mean(keepdims=True)": lambda x: tf.reduce_mean(x, axis=[1, 2], keepdims=True),
            "tf.reduce_max": lambda x: tf.reduce_max(x, axis=[1, 2]),
            "tf.squeeze": lambda x: tf.squeeze(L.GlobalMaxPooling2D(keepdims=True)(x), [1, 2]),
            "tf.expand_dims": lambda x: tf.expand_dims(x, 1),
            "tf.pad": lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
            "tf.image.resize": lambda x: tf.image.resize(x, (5, 9)),
            "tf.math.l2_normalize": lambda x: tf.math.l2_normalize(x, axis=-1), "tf.identity": lambda x: tf.identity(x),
            "K.backend.relu": lambda x: K.backend.relu(x, max_value=2.0),
            "h-swish spelt out": lambda x: x * tf.nn.relu6(x + 3.0) / 6.0,
            "BatchNormalization called with training=True": lambda x: L.BatchNormalization()(x, training=True),
            "training=False": lambda x: L.BatchNormalization()(L.Dropout(0.5)(x, training=False), training=False),
        }.items():
            group.graph(name, call)
        for network in ("mobilenet_v2", "resnet", "densenet"):
            group.graph(f"{network}.preprocess_input", lambda x: getattr(K.applications, network).preprocess_input(x),
                        inputs=pixels((4, 3, 3)))
        group.row("Sequential in Sequential", lambda L: K.Sequential([L.Conv2D(3, 3), L.BatchNormalization()]),
                  lambda L: K.Sequential([L.ReLU(), L.Flatten()]), lambda L: L.Dense(2))

        def nested(x):
            inner = K.Input((7, 6, 4))
            branch = K.Model(inner, L.Add()([inner, L.Conv2D(4, 3, padding="same")(inner)]), name="branch")
            return K.Sequential([L.ReLU(), L.Conv2D(2, 1)], name="row")(branch(x, training=False))

        def shared(x):
            conv = L.Conv2D(4, 3, padding="same", activation="relu")
            return conv(conv(x))

        group.graph("model within model", nested)
        group.graph("one layer in a row twice", shared)
        fresh()
        group.add("Sequential with its shape on its first layer",
                  K.Sequential([L.Conv2D(2, 3, input_shape=(7, 6, 4)), L.Flatten(), L.Dense(3)]))
        fresh()
        x = K.Input(batch_shape=(2, 7, 6, 4), name="pictures")
        group.add("a batch of two and no other", K.Model(x, L.Conv2D(2, 1)(x), name="my_model"))
        group.row("Conv2D and Dense in mixed_float16",
                  lambda L: L.Conv2D(3, 3, activation="relu", dtype=K.mixed_precision.Policy("mixed_float16")),
                  lambda L: L.Flatten(), lambda L: L.Dense(4, dtype="float32"))
