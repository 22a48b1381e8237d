"""Writes tests/golden/networks/inception-{v1,v2,v4}.safetensors: TF-Slim's Inceptions, which Keras does not have.

There is nothing to run them with any more, so that they are stated again here, scope by scope, on TensorFlow's own
operations: after research/slim/nets/inception_{utils,v1,v2,v4}.py of the repository tensorflow/models. The numbers of
parameters are those that TF-Slim's own tests demand (V1 5,607,184 and V2 10,173,112 without top).

Run from the repository root, in a venv with `pip install tensorflow-cpu safetensors`:
    python tests/keras/slim.py
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

sys.path.insert(0, os.path.dirname(__file__))
import formula
from networks import GOLDEN, GRADIENTS, LAYERS, ODD, SAMPLES, sample

EXPECTED = {"inception-v1": 5607184, "inception-v2": 10173112}


class Net:
    """Computes layer by layer with the formula's variables, in float64, and keeps what it computed."""

    def __init__(self, gain, classifier):
        self.gain, self.classifier = gain, classifier
        self.variables, self.trainable, self.outputs = {}, [], {}

    def variable(self, layer, name, shape, trainable=True):
        depthwise = name == "depthwise_kernel"
        value = formula.variable(layer, name, shape, self.gain, depthwise, (), (self.classifier,))
        variable = tf.Variable(value.astype(np.float64))
        self.variables[f"{layer}/{name}"] = variable
        if trainable:
            self.trainable.append((f"{layer}/{name}", variable))
        return variable

    def keep(self, name, x):
        self.outputs[name] = x
        return x

    def conv2d(self, x, filters, kernel, scope, stride=1, padding="SAME", plain=False):
        weights = self.variable(scope, "kernel", (*kernel, x.shape[-1], filters))
        x = self.keep(scope, tf.nn.conv2d(x, weights, stride, padding))
        if plain:
            return self.keep(scope, x + self.variable(scope, "bias", (filters,)))
        norm = f"{scope}/BatchNorm"
        beta = self.variable(norm, "beta", (filters,))
        mean = self.variable(norm, "moving_mean", (filters,), False)
        variance = self.variable(norm, "moving_variance", (filters,), False)
        x = self.keep(norm, tf.nn.batch_normalization(x, mean, variance, beta, None, 1e-3))
        return self.keep(f"{scope}/Relu", tf.nn.relu(x))

    def separable_conv2d(self, x, filters, kernel, multiplier, scope, stride):
        depthwise = self.variable(scope, "depthwise_kernel", (*kernel, x.shape[-1], multiplier))
        pointwise = self.variable(scope, "pointwise_kernel", (1, 1, x.shape[-1] * multiplier, filters))
        x = tf.nn.separable_conv2d(x, depthwise, pointwise, (1, stride, stride, 1), "SAME")
        return self.keep(scope, tf.nn.relu(x + self.variable(scope, "bias", (filters,))))

    def max_pool2d(self, x, size, scope, stride=1, padding="SAME"):
        return self.keep(scope, tf.nn.max_pool2d(x, size, stride, padding))

    def avg_pool2d(self, x, size, scope, stride=1, padding="SAME"):
        return self.keep(scope, tf.nn.avg_pool2d(x, size, stride, padding))

    def concat(self, values, scope):
        return self.keep(scope, tf.concat(values, 3))


def top(net, x, classes, scope):
    """A convolution of one pixel, as V1 and V2 have it."""
    x = tf.reduce_mean(x, (1, 2), keepdims=True)
    return tf.squeeze(net.conv2d(x, classes, (1, 1), scope, plain=True), (1, 2))


def inception_v1(net, x, classes):
    x = net.conv2d(x, 64, (7, 7), "Conv2d_1a_7x7", stride=2)
    x = net.max_pool2d(x, 3, "MaxPool_2a_3x3", stride=2)
    x = net.conv2d(x, 64, (1, 1), "Conv2d_2b_1x1")
    x = net.conv2d(x, 192, (3, 3), "Conv2d_2c_3x3")
    x = net.max_pool2d(x, 3, "MaxPool_3a_3x3", stride=2)

    def block(x, name, one, three, five, pool, second="Conv2d_0b_3x3"):
        a = net.conv2d(x, one, (1, 1), f"{name}/Branch_0/Conv2d_0a_1x1")
        b = net.conv2d(x, three[0], (1, 1), f"{name}/Branch_1/Conv2d_0a_1x1")
        b = net.conv2d(b, three[1], (3, 3), f"{name}/Branch_1/Conv2d_0b_3x3")
        c = net.conv2d(x, five[0], (1, 1), f"{name}/Branch_2/Conv2d_0a_1x1")
        c = net.conv2d(c, five[1], (3, 3), f"{name}/Branch_2/{second}")
        d = net.max_pool2d(x, 3, f"{name}/Branch_3/MaxPool_0a_3x3")
        d = net.conv2d(d, pool, (1, 1), f"{name}/Branch_3/Conv2d_0b_1x1")
        return net.concat([a, b, c, d], f"{name}/concat")

    x = block(x, "Mixed_3b", 64, (96, 128), (16, 32), 32)
    x = block(x, "Mixed_3c", 128, (128, 192), (32, 96), 64)
    x = net.max_pool2d(x, 3, "MaxPool_4a_3x3", stride=2)
    x = block(x, "Mixed_4b", 192, (96, 208), (16, 48), 64)
    x = block(x, "Mixed_4c", 160, (112, 224), (24, 64), 64)
    x = block(x, "Mixed_4d", 128, (128, 256), (24, 64), 64)
    x = block(x, "Mixed_4e", 112, (144, 288), (32, 64), 64)
    x = block(x, "Mixed_4f", 256, (160, 320), (32, 128), 128)
    x = net.max_pool2d(x, 2, "MaxPool_5a_2x2", stride=2)
    x = block(x, "Mixed_5b", 256, (160, 320), (32, 128), 128, second="Conv2d_0a_3x3")
    x = block(x, "Mixed_5c", 384, (192, 384), (48, 128), 128)
    return x if classes is None else top(net, x, classes, "Logits/Conv2d_0c_1x1")


def inception_v2(net, x, classes):
    x = net.separable_conv2d(x, 64, (7, 7), 8, "Conv2d_1a_7x7", 2)
    x = net.max_pool2d(x, 3, "MaxPool_2a_3x3", stride=2)
    x = net.conv2d(x, 64, (1, 1), "Conv2d_2b_1x1")
    x = net.conv2d(x, 192, (3, 3), "Conv2d_2c_3x3")
    x = net.max_pool2d(x, 3, "MaxPool_3a_3x3", stride=2)

    def block(x, name, one, single, double, last, pool="Avg"):
        a = net.conv2d(x, one, (1, 1), f"{name}/Branch_0/Conv2d_0a_1x1")
        b = net.conv2d(x, single[0], (1, 1), f"{name}/Branch_1/Conv2d_0a_1x1")
        b = net.conv2d(b, single[1], (3, 3), f"{name}/Branch_1/Conv2d_0b_3x3")
        c = net.conv2d(x, double[0], (1, 1), f"{name}/Branch_2/Conv2d_0a_1x1")
        c = net.conv2d(c, double[1], (3, 3), f"{name}/Branch_2/Conv2d_0b_3x3")
        c = net.conv2d(c, double[1], (3, 3), f"{name}/Branch_2/Conv2d_0c_3x3")
        d = (net.avg_pool2d if pool == "Avg" else net.max_pool2d)(x, 3, f"{name}/Branch_3/{pool}Pool_0a_3x3")
        d = net.conv2d(d, last, (1, 1), f"{name}/Branch_3/Conv2d_0b_1x1")
        return net.concat([a, b, c, d], f"{name}/concat")

    def reduction(x, name, single, double):
        a = net.conv2d(x, single[0], (1, 1), f"{name}/Branch_0/Conv2d_0a_1x1")
        a = net.conv2d(a, single[1], (3, 3), f"{name}/Branch_0/Conv2d_1a_3x3", stride=2)
        b = net.conv2d(x, double[0], (1, 1), f"{name}/Branch_1/Conv2d_0a_1x1")
        b = net.conv2d(b, double[1], (3, 3), f"{name}/Branch_1/Conv2d_0b_3x3")
        b = net.conv2d(b, double[1], (3, 3), f"{name}/Branch_1/Conv2d_1a_3x3", stride=2)
        c = net.max_pool2d(x, 3, f"{name}/Branch_2/MaxPool_1a_3x3", stride=2)
        return net.concat([a, b, c], f"{name}/concat")

    x = block(x, "Mixed_3b", 64, (64, 64), (64, 96), 32)
    x = block(x, "Mixed_3c", 64, (64, 96), (64, 96), 64)
    x = reduction(x, "Mixed_4a", (128, 160), (64, 96))
    x = block(x, "Mixed_4b", 224, (64, 96), (96, 128), 128)
    x = block(x, "Mixed_4c", 192, (96, 128), (96, 128), 128)
    x = block(x, "Mixed_4d", 160, (128, 160), (128, 160), 96)
    x = block(x, "Mixed_4e", 96, (128, 192), (160, 192), 96)
    x = reduction(x, "Mixed_5a", (128, 192), (192, 256))
    x = block(x, "Mixed_5b", 352, (192, 320), (160, 224), 128)
    x = block(x, "Mixed_5c", 352, (192, 320), (192, 224), 128, pool="Max")
    return x if classes is None else top(net, x, classes, "Logits/Conv2d_1c_1x1")


def inception_v4(net, x, classes):
    def chain(x, scope, *steps):
        """Convolutions one behind the other: name, filters, and what differs from stride 1 and SAME."""
        for name, filters, *others in steps:
            kernel = tuple(int(n) for n in name.split("_")[-1].split("x"))
            x = net.conv2d(x, filters, kernel, f"{scope}/{name}", **(others[0] if others else {}))
        return x

    valid, down = {"padding": "VALID"}, {"padding": "VALID", "stride": 2}

    def block_a(x, name):
        a = chain(x, f"{name}/Branch_0", ("Conv2d_0a_1x1", 96))
        b = chain(x, f"{name}/Branch_1", ("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96))
        c = chain(x, f"{name}/Branch_2", ("Conv2d_0a_1x1", 64), ("Conv2d_0b_3x3", 96), ("Conv2d_0c_3x3", 96))
        d = net.avg_pool2d(x, 3, f"{name}/Branch_3/AvgPool_0a_3x3")
        d = chain(d, f"{name}/Branch_3", ("Conv2d_0b_1x1", 96))
        return net.concat([a, b, c, d], f"{name}/concat")

    def block_b(x, name):
        a = chain(x, f"{name}/Branch_0", ("Conv2d_0a_1x1", 384))
        b = chain(x, f"{name}/Branch_1", ("Conv2d_0a_1x1", 192), ("Conv2d_0b_1x7", 224), ("Conv2d_0c_7x1", 256))
        c = chain(x, f"{name}/Branch_2", ("Conv2d_0a_1x1", 192), ("Conv2d_0b_7x1", 192), ("Conv2d_0c_1x7", 224),
                  ("Conv2d_0d_7x1", 224), ("Conv2d_0e_1x7", 256))
        d = net.avg_pool2d(x, 3, f"{name}/Branch_3/AvgPool_0a_3x3")
        d = chain(d, f"{name}/Branch_3", ("Conv2d_0b_1x1", 128))
        return net.concat([a, b, c, d], f"{name}/concat")

    def block_c(x, name):
        a = chain(x, f"{name}/Branch_0", ("Conv2d_0a_1x1", 256))
        b = chain(x, f"{name}/Branch_1", ("Conv2d_0a_1x1", 384))
        b = net.concat([chain(b, f"{name}/Branch_1", ("Conv2d_0b_1x3", 256)),
                        chain(b, f"{name}/Branch_1", ("Conv2d_0c_3x1", 256))], f"{name}/Branch_1/concat")
        c = chain(x, f"{name}/Branch_2", ("Conv2d_0a_1x1", 384), ("Conv2d_0b_3x1", 448), ("Conv2d_0c_1x3", 512))
        c = net.concat([chain(c, f"{name}/Branch_2", ("Conv2d_0d_1x3", 256)),
                        chain(c, f"{name}/Branch_2", ("Conv2d_0e_3x1", 256))], f"{name}/Branch_2/concat")
        d = net.avg_pool2d(x, 3, f"{name}/Branch_3/AvgPool_0a_3x3")
        d = chain(d, f"{name}/Branch_3", ("Conv2d_0b_1x1", 256))
        return net.concat([a, b, c, d], f"{name}/concat")

    x = net.conv2d(x, 32, (3, 3), "Conv2d_1a_3x3", **down)
    x = net.conv2d(x, 32, (3, 3), "Conv2d_2a_3x3", **valid)
    x = net.conv2d(x, 64, (3, 3), "Conv2d_2b_3x3")
    x = net.concat([net.max_pool2d(x, 3, "Mixed_3a/Branch_0/MaxPool_0a_3x3", **down),
                    chain(x, "Mixed_3a/Branch_1", ("Conv2d_0a_3x3", 96, down))], "Mixed_3a/concat")
    x = net.concat([chain(x, "Mixed_4a/Branch_0", ("Conv2d_0a_1x1", 64), ("Conv2d_1a_3x3", 96, valid)),
                    chain(x, "Mixed_4a/Branch_1", ("Conv2d_0a_1x1", 64), ("Conv2d_0b_1x7", 64),
                          ("Conv2d_0c_7x1", 64), ("Conv2d_1a_3x3", 96, valid))], "Mixed_4a/concat")
    x = net.concat([chain(x, "Mixed_5a/Branch_0", ("Conv2d_1a_3x3", 192, down)),
                    net.max_pool2d(x, 3, "Mixed_5a/Branch_1/MaxPool_1a_3x3", **down)], "Mixed_5a/concat")
    for letter in "bcde":
        x = block_a(x, f"Mixed_5{letter}")
    x = net.concat([
        chain(x, "Mixed_6a/Branch_0", ("Conv2d_1a_3x3", 384, down)),
        chain(x, "Mixed_6a/Branch_1", ("Conv2d_0a_1x1", 192), ("Conv2d_0b_3x3", 224), ("Conv2d_1a_3x3", 256, down)),
        net.max_pool2d(x, 3, "Mixed_6a/Branch_2/MaxPool_1a_3x3", **down)], "Mixed_6a/concat")
    for letter in "bcdefgh":
        x = block_b(x, f"Mixed_6{letter}")
    x = net.concat([
        chain(x, "Mixed_7a/Branch_0", ("Conv2d_0a_1x1", 192), ("Conv2d_1a_3x3", 192, down)),
        chain(x, "Mixed_7a/Branch_1", ("Conv2d_0a_1x1", 256), ("Conv2d_0b_1x7", 256), ("Conv2d_0c_7x1", 320),
              ("Conv2d_1a_3x3", 320, down)),
        net.max_pool2d(x, 3, "Mixed_7a/Branch_2/MaxPool_1a_3x3", **down)], "Mixed_7a/concat")
    for letter in "bcd":
        x = block_c(x, f"Mixed_7{letter}")
    if classes is None:
        return x
    x = tf.reduce_mean(x, (1, 2))
    weights = net.variable("Logits/Logits", "kernel", (x.shape[-1], classes))
    return x @ weights + net.variable("Logits/Logits", "bias", (classes,))


NETWORKS = {
    "inception-v1": (inception_v1, 32, "Logits/Conv2d_0c_1x1", "Predictions"),
    "inception-v2": (inception_v2, 32, "Logits/Conv2d_1c_1x1", "Predictions"),
    "inception-v4": (inception_v4, 75, "Logits/Logits", "Logits/Logits"),
}


def inputs(size):
    images = np.stack([formula.image(f"image/{size}/{i}", size) for i in range(2)])
    return (images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)).astype(np.float64)


def run(name):
    build, least, classifier, last = NETWORKS[name]
    tensors, described = {}, []
    # With 1001 classes as TF-Slim's own, of which the first is the background, and with 1000.
    for size, classes in ((least, 1001), (least + 1, 1000), (ODD, None)):
        images = inputs(size)
        gain = 1.0
        if classes:
            spread = np.asarray(build(Net(1.0, classifier), images, classes)).std(axis=-1).mean()
            gain = float(f"{1.5 / spread:.2g}")
        net = Net(gain, classifier)
        with tf.GradientTape() as tape:
            output = build(net, images, classes)
            if classes:
                weights = (formula.uniform("slope", 2 * classes) - 0.5).astype(np.float32).astype(np.float64)
                loss = tf.reduce_sum(output * weights.reshape(2, -1))
        count = sum(int(np.prod(v.shape)) for v in net.variables.values())
        assert classes or count == EXPECTED.get(name, count), (name, count)
        key = f"{size}-{classes}"
        names = [layer for layer in net.outputs if layer != classifier]
        names = [names[place] for place in np.unique(np.linspace(0, len(names) - 1, LAYERS).round().astype(int))]
        for layer in names:
            tensors[f"{key}/{layer}"] = sample(np.asarray(net.outputs[layer]), SAMPLES)
        if classes:
            names.append(last)
            tensors[f"{key}/{last}"] = sample(np.asarray(tf.nn.softmax(output)), SAMPLES)
            gradients = tape.gradient(loss, [variable for _, variable in net.trainable])
            for (path, _), gradient in zip(net.trainable, gradients):
                tensors[f"{key}/gradient/{path}"] = sample(np.asarray(gradient), GRADIENTS)
        described.append({
            "size": size, "classes": classes, "key": key, "layers": names, "weak": [], "classifier": classifier,
            "gain": gain, "gradients": bool(classes), "parameters": count,
        })
        print(name, key, count, gain, [float(f"{np.abs(tensors[f'{key}/{layer}']).max():.2g}") for layer in names])
    save_file(tensors, os.path.join(GOLDEN, f"{name}.safetensors"), metadata={"cases": json.dumps(described)})


def main():
    for name in sys.argv[1:] or NETWORKS:
        run(name)


if __name__ == "__main__":
    main()
