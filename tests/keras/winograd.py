"""Rounding errors of Winograd's F(4x4, 3x3) in float32, by the distances at which its polynomials are taken, beside those of
the direct way: root mean square and greatest, in units of the outputs' standard deviation. The engine's are in
crates/rekindle-kernels/src/winograd.rs. Depth and images as the middle of a network has them: 256 channels behind a ReLU.

    .venv/bin/python tests/keras/winograd.py
"""

import numpy as np

DISTANCES = [(1, 2), (0.5, 1), (0.5, 1.5), (0.75, 1.5), (0.625, 1.25), (0.625, 1.5), (2**-0.5, 2**0.5)]
DEPTH, OUTPUTS, TILES = 256, 64, 64


def transforms(near, far):
    """Of images, weights and outputs, for 0, +-near, +-far and infinity."""
    a, b = near * near, far * far
    image = [[a * b, 0, -(a + b), 0, 1, 0]]
    image += [[0, -s * p * q, -q, s * p, 1, 0] for p, q in ((near, b), (far, a)) for s in (1, -1)]
    image += [[0, a * b, 0, -(a + b), 0, 1]]
    weights = [[1 / (a * b), 0, 0]]
    for point, other in ((near, b), (far, a)):
        scale = 2 * point**2 * (point**2 - other)
        weights += [[1 / scale, sign * point / scale, point**2 / scale] for sign in (1, -1)]
    weights += [[0, 0, 1]]
    outputs = [[0**k] + [(s * p)**k for p in (near, far) for s in (1, -1)] + [k == 3] for k in range(4)]
    return tuple(np.array(rows, dtype=np.float64) for rows in (image, weights, outputs))


def add(total, factor, values):
    """A fused multiplication and addition in float32."""
    return (total.astype(np.float64) + np.float64(factor) * values.astype(np.float64)).astype(np.float32)


def lines(matrix, values, axis):
    values = np.moveaxis(values, axis, 0)
    out = []
    for row in matrix:
        total = np.zeros_like(values[0])
        for factor, value in zip(row, values):
            total = add(total, np.float32(factor), value) if factor else total
        out.append(total)
    return np.moveaxis(np.stack(out), 0, axis)


def main():
    random = np.random.default_rng(0)
    image = np.maximum(random.standard_normal((TILES, 6, 6, DEPTH)), 0).astype(np.float32)
    kernel = (random.standard_normal((3, 3, DEPTH, OUTPUTS)) / np.sqrt(9 * DEPTH)).astype(np.float32)
    taps = [(image[:, y:y + 4, x:x + 4], kernel[y, x]) for y in range(3) for x in range(3)]
    exact = sum(np.tensordot(pixels.astype(np.float64), tap.astype(np.float64), 1) for pixels, tap in taps)

    def report(name, found):
        off = (found - exact) / exact.std()
        print(f"{name:24} {np.sqrt((off**2).mean()):.2e} {np.abs(off).max():.2e}")

    direct = np.zeros(exact.shape, np.float32)
    for pixels, tap in taps:
        for channel in range(DEPTH):
            direct = add(direct, 1, (pixels[..., channel, None].astype(np.float64) * tap[channel]))
    report("direct", direct)
    for near, far in DISTANCES:
        of_image, of_weights, of_outputs = transforms(near, far)
        points = np.einsum("ai,bj,ijco->abco", of_weights, of_weights, kernel.astype(np.float64)).astype(np.float32)
        tiles = lines(of_image, lines(of_image, image, 1), 2)
        products = np.zeros((TILES, 6, 6, OUTPUTS), np.float32)
        for channel in range(DEPTH):
            products = add(products, 1, tiles[..., channel, None].astype(np.float64) * points[None, :, :, channel])
        report(f"{near:.4g}, {far:.4g}", lines(of_outputs, lines(of_outputs, products, 1), 2))


if __name__ == "__main__":
    main()
