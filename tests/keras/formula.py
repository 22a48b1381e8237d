"""The formula that fills every variable, here and in tests/src/lib.rs.

Golden files hold no weights: both sides compute them from a hash of the variable's name and index.
"""

import zlib

import numpy as np


def uniform(name: str, count: int) -> np.ndarray:
    """`count` values in [0, 1): the top 24 bits of lowbias32(crc32(name) + index)."""
    x = np.arange(count, dtype=np.uint32) + np.uint32(zlib.crc32(name.encode()))
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float64) / float(1 << 24)


# What the layers are called whose outputs are classes.
CLASSIFIERS = ("predictions", "conv_preds")


def variable(
    layer: str,
    name: str,
    shape: tuple,
    classifier_gain: float,
    depthwise: bool | None = None,
    weak: tuple = (),
    classifiers: tuple = CLASSIFIERS,
    weak_gain: float = 0.5,
) -> np.ndarray:
    """The value of one variable, in Keras's layout: He-uniform kernels, statistics near 0 and 1.

    `classifier_gain` widens the classifier's kernel, so that probabilities are neither uniform nor one-hot. Layers in
    `weak` give `weak_gain` of that: their gamma is about so large, or their kernel so much narrower.
    """
    signed = uniform(f"{layer}/{name}", int(np.prod(shape))) * 2.0 - 1.0
    # Residual branches are weaker than what they are added to, as in trained networks; at full
    # strength 10 blocks amplify rounding of float32 tenfold, Keras's as ours.
    is_weak = layer in weak or layer.endswith("_project_BN")
    if name in ("kernel", "depthwise_kernel", "pointwise_kernel"):
        if depthwise is None:
            depthwise = "depthwise" in layer
        fan_in = np.prod(shape[:2]) if depthwise or name == "depthwise_kernel" else np.prod(shape[:-1])
        width = np.sqrt(6.0 / float(fan_in))
        if layer in classifiers:
            width *= classifier_gain
        if layer in weak and name != "depthwise_kernel":
            width *= weak_gain
        value = signed * width
    else:
        centre, width = {
            "gamma": (1.0, 0.2),
            "beta": (0.1, 0.2),
            "moving_mean": (0.0, 0.2),
            "moving_variance": (1.0, 0.5),
            "bias": (0.0, 0.1),
            # Of Normalization, which sees pixels from 0 to 1.
            "mean": (0.4, 0.1),
            "variance": (0.06, 0.02),
            "count": (0.0, 0.0),
        }[name]
        if name == "gamma" and is_weak:
            centre, width = weak_gain, 0.2 * weak_gain
        value = centre + width * signed
    return value.astype(np.float32).reshape(shape)


def image(name: str, size: int) -> np.ndarray:
    """A [size, size, 3] picture of byte values: coarse noise plus fine noise."""
    coarse = uniform(f"{name}/coarse", 8 * 8 * 3).reshape(8, 8, 3)
    grid = np.arange(size) * 8 // size
    fine = uniform(f"{name}/fine", size * size * 3).reshape(size, size, 3)
    return np.floor((0.75 * coarse[grid][:, grid] + 0.25 * fine) * 256.0).astype(np.float32)
