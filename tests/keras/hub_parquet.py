"""Photos in Parquet files, written by Hugging Face's `datasets` as the hub has them, and by pyarrow as others do.

python tests/keras/hub_parquet.py   # pip install datasets pyarrow pillow
"""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Pil

TO = Path(__file__).parent.parent / "golden" / "images" / "parquet"
# The order is not that of the names.
NAMES = ["tabby", "beagle", "axolotl"]


def png(shade):
    to = io.BytesIO()
    Pil.new("RGB", (3, 2), (shade, shade, shade)).save(to, "PNG")
    return to.getvalue()


def image(shade, path):
    return {"bytes": png(shade), "path": path}


TO.mkdir(parents=True, exist_ok=True)

# As a data set is pushed to the hub; the second photo has no path, the fourth one with a folder.
features = Features({"label": ClassLabel(names=NAMES), "image": Image()})
rows = {
    "label": [2, 0, 1, 0],
    "image": [image(10, "a.b.png"), image(11, None), image(12, "c.png"), image(13, "x/d.png")],
}
hub = Dataset.from_dict(rows, features=features)
hub.to_parquet(TO / "train-00000-of-00002.parquet")
rows = {"label": [1], "image": [image(14, "a.b.png")]}
Dataset.from_dict(rows, features=features).to_parquet(TO / "train-00001-of-00002.parquet")
# The test's labels are not told.
rows = {"label": [-1], "image": [image(15, "t.png")]}
Dataset.from_dict(rows, features=features).to_parquet(TO / "test-00000-of-00001.parquet")

# Without the hub's metadata: plain bytes in large columns, and text.
table = pa.table(
    {
        "id": pa.array([7, 8], pa.int64()),
        "img": pa.array([png(20), png(21)], pa.large_binary()),
        "label": pa.array(["dog", "cat"], pa.large_string()),
    }
)
for codec in ("none", "gzip", "snappy", "zstd"):
    pq.write_table(table, TO / f"plain_{codec}.parquet", compression=codec, row_group_size=1)
