"""JPEGs that Pillow's encoder cannot write: any sampling, colors and markers. Plain numpy, small images only."""

import numpy as np

ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8)))
DCT = np.array([[np.cos((2 * x + 1) * u * np.pi / 16) * (np.sqrt(1 / 8) if u == 0 else 0.5) for x in range(8)] for u in range(8)])


def code(lengths):
    """A canonical Huffman code: symbol to (bits, length)."""
    table, value, length = {}, 0, 0
    for symbol, size in lengths:
        value <<= size - length
        length = size
        table[symbol] = (value, size)
        value += 1
    return table


# All codes as long as each other, and never all ones: simple, legal, and longer than they need be.
DC = [(symbol, 4) for symbol in range(12)]
AC = [(run << 4 | size, 8) for run in range(16) for size in range(1, 11)] + [(0x00, 8), (0xF0, 8)]


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def dht(kind, table):
    counts = bytes(sum(size == length for _, size in table) for length in range(1, 17))
    return segment(0xC4, bytes([kind]) + counts + bytes(symbol for symbol, _ in table))


class Bits:
    def __init__(self):
        self.text = []

    def put(self, value, size):
        if size:
            self.text.append(format(value, f"0{size}b"))

    def bytes(self):
        text = "".join(self.text)
        text += "1" * (-len(text) % 8)
        raw = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
        return raw.replace(b"\xff", b"\xff\x00")


def number(bits, value):
    size = int(abs(int(value))).bit_length()
    return size, lambda: bits.put(int(value) if value >= 0 else int(value) + (1 << size) - 1, size)


def shrink(plane, down, across):
    height, width = plane.shape
    return plane.reshape(height // down, down, width // across, across).mean(axis=(1, 3))


def blocks(plane, quant, rows, columns):
    """Quantised coefficients in zigzag order: [rows, columns, 64]."""
    plane = np.pad(plane, ((0, rows * 8 - plane.shape[0]), (0, columns * 8 - plane.shape[1])), "edge") - 128.0
    cut = plane.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3)
    return np.round(DCT @ cut @ DCT.T / quant).astype(int).reshape(rows, columns, 64)[:, :, ZIGZAG]


def encode(planes, samplings, quality=8, markers=(), ids=None, interval=0, interleaved=True, progressive=False, before_eoi=b""):
    """planes: full-size arrays [height, width]; samplings: (across, down) of each; quality: the quantiser's step."""
    height, width = planes[0].shape
    most = max(a for a, _ in samplings), max(d for _, d in samplings)
    mcus = -(-width // (8 * most[0])), -(-height // (8 * most[1]))
    ids = ids or list(range(1, len(planes) + 1))
    quant = np.minimum(quality + np.add.outer(range(8), range(8)), 255)
    every = []
    for plane, (across, down) in zip(planes, samplings):
        full = np.pad(plane.astype(float), ((0, mcus[1] * 8 * most[1] - height), (0, mcus[0] * 8 * most[0] - width)), "edge")
        # A share that is no whole number takes every so-manieth pixel.
        if most[0] % across or most[1] % down:
            full = full[np.ix_(np.arange(mcus[1] * 8 * down) * most[1] // down, np.arange(mcus[0] * 8 * across) * most[0] // across)]
        else:
            full = shrink(full, most[1] // down, most[0] // across)
        every.append(blocks(full, quant, mcus[1] * down, mcus[0] * across))
    dc, ac = code(DC), code(AC)
    frame = bytes([8]) + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([len(planes)])
    frame += b"".join(bytes([name, a << 4 | d, 0]) for name, (a, d) in zip(ids, samplings))
    out = b"\xff\xd8" + b"".join(segment(marker, body) for marker, body in markers)
    out += segment(0xDB, b"\0" + bytes(quant.reshape(64)[ZIGZAG].astype(np.uint8)))
    out += segment(0xC2 if progressive else 0xC0, frame) + dht(0x00, DC) + dht(0x10, AC)
    if interval:
        out += segment(0xDD, interval.to_bytes(2, "big"))
    together = list(range(len(planes)))
    groups = [together] if interleaved else [[part] for part in together]
    scans = [(group, 0, 63) for group in groups]
    if progressive:
        scans = [(together, 0, 0)] + [([part], low, high) for low, high in ((1, 5), (6, 63)) for part in together]
    for group, low, high in scans:
        out += segment(0xDA, bytes([len(group)]) + b"".join(bytes([ids[part], 0]) for part in group) + bytes([low, high, 0]))
        out += scan(every, samplings, group, mcus, (width, height), most, low, high, interval, dc, ac)
    return out + before_eoi + b"\xff\xd9"


def scan(every, samplings, group, mcus, size, most, low, high, interval, dc, ac):
    units = []
    if len(group) > 1:
        for y in range(mcus[1]):
            for x in range(mcus[0]):
                unit = []
                for part in group:
                    a, d = samplings[part]
                    unit += [(part, y * d + j, x * a + i) for j in range(d) for i in range(a)]
                units.append(unit)
    else:
        # A component alone has only the blocks that the image needs.
        part = group[0]
        a, d = samplings[part]
        columns, rows = -(-size[0] * a // (8 * most[0])), -(-size[1] * d // (8 * most[1]))
        units = [[(part, y, x)] for y in range(rows) for x in range(columns)]
    out, bits, last = b"", Bits(), {}
    for count, unit in enumerate(units):
        if interval and count and count % interval == 0:
            out += bits.bytes() + bytes([0xFF, 0xD0 + (count // interval - 1) % 8])
            bits, last = Bits(), {}
        for part, y, x in unit:
            block = every[part][y, x]
            if low == 0:
                size_, rest = number(bits, block[0] - last.get(part, 0))
                bits.put(*dc[size_])
                rest()
                last[part] = block[0]
            run = 0
            for value in block[max(low, 1) : high + 1]:
                if value == 0:
                    run += 1
                    continue
                while run > 15:
                    bits.put(*ac[0xF0])
                    run -= 16
                size_, rest = number(bits, value)
                bits.put(*ac[run << 4 | size_])
                rest()
                run = 0
            if run and high:
                bits.put(*ac[0x00])
    return out + bits.bytes()


JFIF = (0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def adobe(transform):
    return (0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))
