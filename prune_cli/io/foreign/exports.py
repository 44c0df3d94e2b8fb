"""Selected rows in the files that other training stacks read: a table of targets, each with its writer.

An export is a function here, which asks `SelectedRows` for what it needs, and an entry of `TARGETS`. Rows come as a stream, one after
the other; nothing here holds them all. What a name is made from comes out of data that somebody else made, so that it can neither leave
the folder nor name a file twice. The command line lists the targets, so that numpy and pyarrow are imported by the functions alone.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from prune_cli.core.errors import InputError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from prune_cli.io.manifests.selected_rows import Sample, SelectedRows

SHARD_BYTES = 256 * 2**20
"""About how large a shard grows."""

_SUFFIXES = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"II*\x00", ".tif"), (b"MM\x00*", ".tif"))
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_NAME = 80  # a tar file takes names of 100, endings among them
_LINES = 65_536
_UID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class FileTarget:
    """An export that is one file.

    Args:
        summary: what help calls it.
        suffix: how the name of its file ends.
        write: writes the rows.
    """

    summary: str
    suffix: str
    write: Callable[[BinaryIO, SelectedRows], None]


@dataclass(frozen=True)
class FolderTarget:
    """An export that is a folder of files.

    Args:
        summary: what help calls it.
        write: writes the rows in a folder, in shards of about so many bytes with this metadata where it makes any, and returns how many
            shards there are.
    """

    summary: str
    write: Callable[[Path, SelectedRows, int, Mapping[bytes, bytes]], int | None]


def image_suffix(image: bytes) -> str:
    """Return the ending of a picture's file name, by its first bytes.

    >>> image_suffix(b"\\xff\\xd8\\xff\\xe0")
    '.jpg'
    """
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in _SUFFIXES if image.startswith(start)), ".img")


class Names:
    """Names of files: letters, digits, ``_`` and ``-``, none of them twice, whatever is asked for.

    >>> names = Names()
    >>> names("a/../b"), names("a b"), names("a?b"), names("")
    ('a_b', 'a_b-1', 'a_b-2', '_')
    """

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def __call__(self, wanted: object) -> str:
        base = name = _UNSAFE.sub("_", str(wanted))[:_LONGEST_NAME] or "_"
        while name.lower() in self._taken:  # some file systems do not tell cases apart
            name = f"{base}-{self._taken[base.lower()]}"
            self._taken[base.lower()] += 1
        self._taken[name.lower()] = 1
        return name


def write_ids(file: BinaryIO, rows: SelectedRows) -> None:
    """Write one id a line.

    Raises:
        InputError: an id with a line break.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = rows.ids().cast(pa.string())
    broken = texts.filter(pc.match_substring_regex(texts, "[\\n\\r]"))
    if len(broken):
        raise InputError(f"id {broken[0].as_py()!r} has a line break", "export --to csv")
    for start in range(0, len(texts), _LINES):
        file.write("".join(f"{text}\n" for text in texts[start : start + _LINES].to_pylist()).encode())


def write_csv(file: BinaryIO, rows: SelectedRows) -> None:
    """Write ``id``, ``label``, ``class``, and ``given_label`` and ``weight`` where there are any."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    more = [*(["given_label"] if rows.cleaned else []), *(["weight"] if rows.weighed else [])]
    writer.writerow(["id", "label", "class", *more])
    for s in rows.samples(inputs=False):
        writer.writerow([s.id, s.label, s.class_name, *(getattr(s, name) for name in more)])
    text.detach()


def write_uids(file: BinaryIO, rows: SelectedRows) -> None:
    """Write what DataComp's resharder takes: the 128-bit uids in two halves, sorted, as a NumPy file.

    Raises:
        InputError: an id that is no uid of 32 hexadecimal digits.
    """
    import numpy as np

    halves = []
    for sample in rows.samples(inputs=False):
        text = str(sample.id)
        if not _UID.fullmatch(text):
            raise InputError(f"id {text!r} is no uid of 32 hexadecimal digits", "name the column with --id-column uid")
        halves.append((int(text[:16], 16), int(text[16:], 16)))
    np.lib.format.write_array(file, np.sort(np.array(halves, dtype="u8,u8")), allow_pickle=False)


def write_paths(file: BinaryIO, rows: SelectedRows) -> None:
    """Write one path a line, as Ultralytics' ``train.txt`` has them.

    Raises:
        InputError: a path with a line break, or a picture without a path.
    """
    for path in rows.paths():
        if "\n" in path or "\r" in path:
            raise InputError(f"path {path!r} has a line break", "rename the file")
        file.write(f"{path}\n".encode())


def write_shards(folder: Path, rows: SelectedRows, shard_bytes: int, metadata: Mapping[bytes, bytes]) -> int:
    """Write ``train-00000-of-00002.parquet`` and so on, as Hugging Face's ``datasets`` names them, and return how many there are."""
    import pyarrow.parquet as pq

    schema = rows.schema().with_metadata(metadata)
    parts: list[Path] = []
    writer: pq.ParquetWriter | None = None
    size = shard_bytes
    for batch in rows.batches():
        if writer is None or size >= shard_bytes:
            if writer is not None:
                writer.close()
            parts.append(folder / f"part-{len(parts)}")
            writer, size = pq.ParquetWriter(parts[-1], schema, compression="zstd", version="2.6"), 0
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        size += batch.nbytes
    if writer is not None:
        writer.close()
    for number, part in enumerate(parts):
        part.rename(folder / f"train-{number:05d}-of-{len(parts):05d}.parquet")
    return len(parts)


def write_image_folder(folder: Path, rows: SelectedRows, *_: object) -> None:
    """Write ``CLASS/ID.jpg`` for each sample: the bytes as they are. Rows without a label go to ``unlabeled``.

    Raises:
        InputError: a sample without a picture.
    """
    of_classes, of_files = Names(), Names()
    folders = [of_classes(name) for name in rows.labels.display_names()]
    unlabeled = of_classes("unlabeled")
    for sample in rows.samples(inputs=True):
        if sample.image is None:
            raise InputError(f"row '{sample.id}' has no picture", "export --to parquet, webdataset, csv or ids")
        place = folder / (folders[sample.code] if sample.code >= 0 else unlabeled)
        place.mkdir(exist_ok=True)
        (place / f"{of_files(sample.id)}{image_suffix(sample.image)}").write_bytes(sample.image)


def write_webdataset(folder: Path, rows: SelectedRows, shard_bytes: int, *_: object) -> int:
    """Write tar files of samples, ``KEY.jpg`` (or ``.npy``), ``KEY.cls`` and ``KEY.json``, and return how many shards there are.

    The same samples give the same bytes: no times, no owners.
    """
    import tarfile

    names, shard, size = Names(), -1, shard_bytes
    archive: tarfile.TarFile | None = None
    try:
        for sample in rows.samples(inputs=True):
            if size >= shard_bytes or archive is None:
                if archive is not None:
                    archive.close()
                shard, size = shard + 1, 0
                archive = tarfile.open(folder / f"shard-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            key = names(sample.id)
            for suffix, content in _members(sample):
                entry = tarfile.TarInfo(f"{key}{suffix}")
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
                size += len(content)
    finally:
        if archive is not None:
            archive.close()
    return shard + 1


def _members(sample: Sample) -> Iterator[tuple[str, bytes]]:
    if sample.image is not None:
        yield image_suffix(sample.image), sample.image
    if sample.embedding is not None:
        import numpy as np

        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, sample.embedding, allow_pickle=False)
        yield ".npy", buffer.getvalue()
    if sample.code >= 0:
        yield ".cls", str(sample.code).encode()
    told: Mapping[str, Any] = {"id": sample.id, "label": sample.label, "class": sample.class_name}
    weighed = {} if sample.weight is None else {"weight": sample.weight}
    yield ".json", json.dumps({**told, **weighed}, sort_keys=True).encode()


TARGETS: dict[str, FileTarget | FolderTarget] = {
    "ids": FileTarget("ids", ".txt", write_ids),
    "csv": FileTarget("csv", ".csv", write_csv),
    "uids": FileTarget("uids (DataComp)", ".npy", write_uids),
    "ultralytics": FileTarget("ultralytics", ".txt", write_paths),
    "parquet": FolderTarget("parquet (datasets)", write_shards),
    "folder": FolderTarget("folder", write_image_folder),
    "webdataset": FolderTarget("webdataset", write_webdataset),
}
"""What a selection is handed on as: ``prune manifest export --to``."""
