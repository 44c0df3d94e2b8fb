"""Objects of Google Cloud Storage, on a small server of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from prune_cli.core.errors import InputError
from prune_cli.io.parquet.provenance import hash_file
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.stores.atomic import atomic_file, check_output

pytestmark = pytest.mark.skipif(not hasattr(pyarrow.fs, "GcsFileSystem"), reason="this pyarrow knows no gs://")


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """Where the server is."""
    command = [sys.executable, str(Path(__file__).parents[2] / "gcs_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.kill()


@pytest.fixture
def at(port: str) -> Callable[[str], str]:
    """Return the location of an object there."""
    return lambda key: f"gs://anonymous@{key}?endpoint_override=127.0.0.1:{port}&scheme=http"


def objects(port: str) -> dict[str, int]:
    with urlopen(f"http://127.0.0.1:{port}/objects") as answer:
        return json.load(answer)  # type: ignore[no-any-return]


def put(location: str, table: pa.Table) -> None:
    with atomic_file(location) as file:
        pq.write_table(table, file)


def test_objects_and_prefixes_are_read_as_they_were_written(at: Callable[[str], str], tmp_path: Path) -> None:
    parts = [pa.table({"id": ["a", "b"]}), pa.table({"id": ["c"]})]
    for name, table in zip(("f/1.parquet", "f/2.parquet"), parts, strict=True):
        put(at(f"bucket/{name}"), table)
    pq.write_table(parts[0], tmp_path / "1.parquet")
    one, both = ParquetSource(at("bucket/f/1.parquet")), ParquetSource(at("bucket/f"))
    assert one.inputs == (hash_file(tmp_path / "1.parquet"),)
    assert both.read(["id"]).column(0).to_pylist() == ["a", "b", "c"]
    assert (both.names, both.stem) == (["1.parquet", "2.parquet"], "f")


@pytest.mark.parametrize("size", [0, 5, 32 * 2**20 + 1])
def test_an_object_is_there_when_it_is_whole(size: int, at: Callable[[str], str], port: str) -> None:
    name, content = f"whole-{size}", os.urandom(size)
    check_output(at(f"bucket/{name}"), force=False)
    with atomic_file(at(f"bucket/{name}")) as file:
        file.write(content)
        assert name not in objects(port)
    assert objects(port)[name] == size
    with pytest.raises(InputError, match="exists already"):
        check_output(at(f"bucket/{name}"), force=False)


def test_an_error_before_the_end_leaves_no_object(at: Callable[[str], str], port: str) -> None:
    check_output(at("bucket/half"), force=False)
    with pytest.raises(RuntimeError), atomic_file(at("bucket/half")) as file:
        file.write(b"half")
        raise RuntimeError
    assert "half" not in objects(port)


def test_errors_say_why(at: Callable[[str], str]) -> None:
    for key, said in (
        ("bucket/none.parquet", "does not exist"),
        ("other/none.parquet", "there is no such bucket"),
        ("bucket/secret", "access is denied"),
    ):
        with pytest.raises(InputError, match=said):
            ParquetSource(at(key))


def test_nobody_there_is_told_in_seconds() -> None:
    with pytest.raises(InputError, match="the store cannot be reached"):
        ParquetSource("gs://anonymous@bucket/a?endpoint_override=127.0.0.1:9&scheme=http&retry_limit_seconds=1")
