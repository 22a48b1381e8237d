"""Makes photos in a folder and puts them into a bucket; or gets an object.

objects.py ENDPOINT FOLDER COUNT
objects.py ENDPOINT --get KEY FILE
"""

import io
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from PIL import Image

endpoint = sys.argv[1]
s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
if sys.argv[2] == "--get":
    s3.download_file("pets", sys.argv[3], sys.argv[4])
    sys.exit()
folder, count = Path(sys.argv[2]), int(sys.argv[3])
for attempt in range(100):
    try:
        s3.create_bucket(Bucket="pets")
        break
    except Exception:  # The server starts.
        import time

        time.sleep(0.2)
draw = random.Random(3)


def photo(number):
    kind = ("cat", "dog", "owl")[number % 3]
    path = folder / kind / f"{number:05}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = [(number * 7 + shift) % 256 for shift in (0, 80 * (number % 3), 160)]
    to = io.BytesIO()
    image = Image.new("RGB", (40, 40), tuple(colors))
    image.putpixel((number % 40, number // 40 % 40), (255, 255, 255))
    image.save(to, "JPEG")
    path.write_bytes(to.getvalue())
    s3.put_object(Bucket="pets", Key=f"photos/{kind}/{path.name}", Body=to.getvalue())


with ThreadPoolExecutor(16) as pool:
    list(pool.map(photo, range(count)))
print(f"{count} photos in a folder and in a bucket")
