"""Make the sample data: the handwritten digits that scikit-learn bundles, as PNG in Parquet.

    python sample_data/make_sample_data.py [--output FOLDER]

Every run of one pyarrow version writes the same bytes: nothing is drawn at random (which row goes where is read off a
SHA-256 of its id), and the PNG files are stored rather than packed, so that no version of zlib shows in them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

CLASSES = 10
TEST_PER_CLASS = 50
FLIPPED_SHARE = 0.2
ROW_GROUP = 500


def png(grey: np.ndarray) -> bytes:
    """Return an (H, W) uint8 picture as a PNG file whose rows are neither filtered nor packed."""
    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    stored = b"\x01" + struct.pack("<HH", len(rows), len(rows) ^ 0xFFFF) + rows
    packed = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b""))
    file = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        file += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return file


def draw(purpose: str, row_id: str) -> int:
    """Return a number that is as good as random, and always the same for one purpose and row."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {row_id}".encode()).digest()[:8], "big")


def test_rows(ids: list[str], labels: np.ndarray) -> np.ndarray:
    """Return (N,) bool: 50 rows of each class for the test."""
    mask = np.zeros(len(ids), dtype=bool)
    for label in range(CLASSES):
        of_class = np.flatnonzero(labels == label).tolist()
        mask[sorted(of_class, key=lambda row: draw("split", ids[row]))[:TEST_PER_CLASS]] = True
    return mask


def flipped(ids: list[str], labels: np.ndarray) -> np.ndarray:
    """Return (N,) int64 labels of which a fifth is another class, each of the nine others as likely."""
    noisy = labels.copy()
    count = int(FLIPPED_SHARE * len(ids))
    for row in sorted(range(len(ids)), key=lambda row: draw("flip", ids[row]))[:count]:
        noisy[row] = (labels[row] + 1 + draw("to", ids[row]) % (CLASSES - 1)) % CLASSES
    return noisy


def write(path: Path, ids: list[str], images: list[bytes], labels: dict[str, np.ndarray]) -> None:
    """Write one Parquet file as Hugging Face ``datasets`` would."""
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    class_label = {"names": [str(label) for label in range(CLASSES)], "_type": "ClassLabel"}
    features = {"id": {"dtype": "string", "_type": "Value"}, "image": {"_type": "Image"}, **dict.fromkeys(labels, class_label)}
    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "image": pa.array([{"bytes": i, "path": f"{n}.png"} for n, i in zip(ids, images, strict=True)], image_type),
            **{name: pa.array(values, pa.int64()) for name, values in labels.items()},
        }
    )
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=ROW_GROUP, compression="zstd", compression_level=19)


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder to write to (default: here)")
    folder: Path = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    ids = [f"digit-{row:04d}" for row in range(len(labels))]
    images = [png(picture) for picture in ((digits.images * 255 + 8) // 16).astype(np.uint8)]
    in_test = test_rows(ids, labels)
    for name, rows in (("train", np.flatnonzero(~in_test)), ("test", np.flatnonzero(in_test))):
        part_ids, part_images = [ids[row] for row in rows], [images[row] for row in rows]
        write(folder / f"digits_{name}.parquet", part_ids, part_images, {"label": labels[rows]})
        if name == "train":
            noisy = {"label": flipped(part_ids, labels[rows]), "true_label": labels[rows]}
            write(folder / "digits_noisy_train.parquet", part_ids, part_images, noisy)


if __name__ == "__main__":
    main()
