"""Every error a user meets: its exit code, its words, and that nothing half-written is left."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import png, write
from waiting import HANGS
from warm import WarmCommands


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def fails(prune, code: int, words: list[str], *arguments: object, written: set[str] = frozenset(), **kwargs: object) -> str:  # type: ignore[no-untyped-def, assignment]
    """Run, and check the code, the words on standard error, an empty standard output, no traceback and no new file."""
    folder = Path(prune.folder)
    before = files(folder)
    done = prune(*arguments, check=code, **kwargs)
    message = done.stderr.decode()
    for word in words:
        assert word in message, message
    assert "Traceback" not in message and done.stdout == b""
    assert files(folder) - before == set(written)
    return message


def test_a_missing_file(prune) -> None:  # type: ignore[no-untyped-def]
    fails(prune, 2, ["nothing.parquet does not exist"], "score", "nothing.parquet")


def test_a_truncated_file(prune, vectors: Path) -> None:  # type: ignore[no-untyped-def]
    vectors.write_bytes(vectors.read_bytes()[:-200])
    fails(prune, 2, ["vectors.parquet is not a whole Parquet file"], "score", vectors)


def test_a_missing_column_names_those_there_are(prune, vectors: Path) -> None:  # type: ignore[no-untyped-def]
    fails(prune, 2, ["no column 'class'", "label (int64)", "--label-column"], "score", vectors, "--label-column", "class")


def test_duplicate_ids(prune, vectors: Path) -> None:  # type: ignore[no-untyped-def]
    table = pq.read_table(vectors)
    pq.write_table(table.set_column(0, "id", pa.array(["same"] * 2 + [str(i) for i in range(58)])), vectors)
    fails(prune, 2, ["1 id(s) stand more than once", "same"], "score", vectors)


def test_one_class_alone_has_no_gap(prune, vectors: Path) -> None:  # type: ignore[no-untyped-def]
    table = pq.read_table(vectors)
    pq.write_table(table.set_column(1, "label", pa.array([1] * 60)), vectors)
    fails(prune, 2, ["class"], "score", vectors)


def test_an_unknown_parameter_lists_the_known_ones(prune, vectors: Path) -> None:  # type: ignore[no-untyped-def]
    fails(prune, 2, ["cg has no parameter 'ratoi'", "repeats (int|none, default None)"], "score", vectors, "-p", "ratoi=1")
    fails(prune, 2, ["does not parse", "give int"], "score", vectors, "-p", "repeats=some")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["score"], "DATA"),
        (["score", "x.parquet", "--fast"], "--fast"),
        (["score", "x.parquet", "--method", "magic"], "unknown score method 'magic'"),
        (["score", "x.parquet", "--preset", "magic"], "unknown preset 'magic'"),
        (["score", "x.parquet", "--image-size", "big"], "--image-size 'big' is not a size"),
        (["score", "x.parquet", "--max-errors", "few"], "--max-errors 'few'"),
        (["score", "x.parquet", "--memory-limit", "much"], "'much' is not a size"),
        (["score", "x.parquet", "--root", "nowhere"], "--root nowhere is not a folder"),
        (["score", "x.parquet", "--input", "sound"], "--input 'sound'"),
        (["score", "x.parquet", "--seed", "-1"], "--seed"),
        (["select", "x.parquet", "--fraction", "a,b"], "not a list of numbers"),
        (["prune"], "prune"),
    ],
)
def test_usage(prune, arguments: list[str], words: str) -> None:  # type: ignore[no-untyped-def]
    fails(prune, 2, [words], *arguments)


def test_an_unknown_device_and_one_that_is_not_there(prune, vectors: Path) -> None:  # type: ignore[no-untyped-def]
    fails(prune, 2, ["is not a device"], "score", vectors, "--device", "tpu")
    message = fails(prune, 4, ["--device cuda:99", "pip install torch"], "score", vectors, "--device", "cuda:99")
    assert "CUDA device" in message


def test_a_nan_row_stops_the_run_with_3_and_is_in_the_ledger(prune, vectors: Path) -> None:  # type: ignore[no-untyped-def]
    table = pq.read_table(vectors)
    values = np.array(table.column("embedding").to_pylist())
    values[7, 3] = np.nan
    bad_id = table.column("id")[7].as_py()
    pq.write_table(table.set_column(2, "embedding", pa.array(list(values))), vectors)
    words = ["1 of 60 rows are bad", bad_id, "NaN or infinite vector", "--max-errors 1"]
    fails(prune, 3, words, "score", vectors, written={"vectors.scores.errors.parquet"})
    assert pq.read_table(vectors.with_name("vectors.scores.errors.parquet")).column("id").to_pylist() == [bad_id]
    done = prune("score", vectors, "--max-errors", "1")
    assert b"1 bad row(s) left out" in done.stderr
    scored = pq.read_table(vectors.with_name("vectors.scores.parquet"))
    assert scored.num_rows == 59 and bad_id not in scored.column("id").to_pylist()


def test_bad_pictures_are_bad_rows(prune, pictures: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from PIL import Image

    jpeg = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(jpeg)
    table = pq.read_table(pictures)
    images = table.column("image").to_pylist()
    images[0] = jpeg.read_bytes()[:600]  # a corrupt JPEG
    images[1] = bomb(20_000, 15_000)
    images[2] = None
    pq.write_table(table.set_column(1, "image", pa.array(images, pa.binary())), pictures)
    fails(prune, 3, ["3 of 40 rows are bad"], "score", pictures, written={"pictures.scores.errors.parquet"})
    ledger = pq.read_table(tmp_path / "pictures.scores.errors.parquet").to_pylist()
    assert [r["id"] for r in ledger] == ["p00", "p01", "p02"]
    assert "pixels" in ledger[1]["reason"]


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of 300 million pixels in a few bytes."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_paths_that_leave_the_root_are_never_opened(prune, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root, outside = tmp_path / "root", tmp_path / "outside.png"
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (6, 4, 4)).astype(np.uint8)
    outside.write_bytes(png(pixels[0]))
    for i in range(4):
        (root / f"{i}.png").write_bytes(png(pixels[i]))
    (root / "link.png").symlink_to(outside)
    names = ["0.png", "1.png", "2.png", "3.png", "../outside.png", str(outside), "link.png", "none.png"]
    write(tmp_path / "d.parquet", {"id": names, "image": names, "label": [0, 1] * 4})
    fails(prune, 3, ["4 of 8 rows are bad"], "score", "d.parquet", "--root", "root", written={"d.scores.errors.parquet"})
    assert pq.read_table(tmp_path / "d.scores.errors.parquet").column("id").to_pylist() == names[4:]
    prune("score", "d.parquet", "--root", "root", "--max-errors", "50%")


def test_an_existing_output_is_an_error_before_any_work(prune, vectors: Path) -> None:  # type: ignore[no-untyped-def]
    prune("score", vectors, "-o", "out.parquet")
    before = vectors.with_name("out.parquet").read_bytes()
    fails(prune, 2, ["out.parquet exists already", "--force"], "score", vectors, "-o", "out.parquet", "--seed", "1")
    assert vectors.with_name("out.parquet").read_bytes() == before
    prune("score", vectors, "-o", "out.parquet", "--seed", "1", "--force")
    assert vectors.with_name("out.parquet").read_bytes() != before


def test_more_memory_than_allowed_is_refused_with_a_way_out(prune, vectors: Path) -> None:  # type: ignore[no-untyped-def]
    fails(prune, 2, ["may use 1.0 MiB", "--precision float32"], "score", vectors, "--memory-limit", "1MiB")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk wants root")
def test_a_full_disk(prune, vectors: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        (disk / "filler").write_bytes(bytes(16_000))
        fails(
            prune,
            2,
            ["cannot write", "No space left", "free disk space"],
            "score",
            vectors,
            "-o",
            "disk/out.parquet",
            "--work-dir",
            "work",
            written={"work"},
        )
        assert files(disk) == {"filler"}
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_standard_output(warm: WarmCommands, vectors: Path) -> None:
    for output in ("-", vectors.with_name("out.parquet")):
        with Path("/dev/full").open("wb") as full:
            command = [warm.python, "-m", "prune_cli", "score", str(vectors), "-q", "-o", str(output)]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
        wanted = 2 if output == "-" else 0  # the scores are lost, or only the line that names them
        assert done.returncode == wanted and b"No space left on device" in done.stderr and b"Traceback" not in done.stderr


def test_no_good_row_is_no_answer_whatever_is_allowed(prune, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / "d.parquet", {"label": [0, 1], "image": [b"x", b"y"]})
    for command in ("score", "train"):
        written = {f"d.{'scores' if command == 'score' else 'train'}.errors.parquet"}
        fails(prune, 3, ["all 2 rows are bad"], command, "d.parquet", "--max-errors", "100%", written=written)


def test_a_closed_pipe_is_quiet(warm: WarmCommands, vectors: Path) -> None:  # type: ignore[no-untyped-def]
    reader, writer = os.pipe()
    os.close(reader)
    command = ["-m", "prune_cli", "score", vectors, "-q", "-o", "-"]
    process = warm.start(*command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, errors = process.communicate(timeout=HANGS)
    assert errors == b"" and process.returncode == 141


def test_ctrl_c_leaves_nothing(warm: WarmCommands, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    values = np.random.default_rng(0).normal(size=(600, 8))
    write(tmp_path / "big.parquet", {"label": np.arange(600) % 3, "embedding": list(values)})
    before = files(tmp_path)
    command = ["score", "big.parquet", "-p", "mode=partition", "-p", "block_size=100"]
    put = "prune_cli.io.runs.finished:BlockFolder.put"
    process = warm.held(put, 2, *command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 130, errors
    assert b"interrupted" in errors and b"Traceback" not in errors and out == b""
    left = files(tmp_path) - before
    assert left == {"big.scores.parquet.work"}
