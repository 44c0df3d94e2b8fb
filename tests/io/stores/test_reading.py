"""Object stores, read and written by the functions of ``io``."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_stores import SmallStore
from waiting import HANGS

from prune_cli.core.errors import InputError, UnavailableError
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.stores.atomic import atomic_file, check_output
from prune_cli.io.stores.filesystems import open_filesystem
from prune_cli.io.stores.locations import beside, is_remote, local_twin, name_of, require_local, stem_of
from prune_cli.io.stores.reading import fetch, open_input

PART = 10 * 2**20


def parquet(rows: int = 5, start: int = 0) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": [f"r{i}" for i in range(start, start + rows)]}), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("location", "remote", "name", "stem", "ledger", "twin"),
    [
        ("s3://b/f/a.parquet", True, "a.parquet", "a", "s3://b/f/a.errors.parquet", "a.parquet"),
        ("gs://b/a?scheme=http", True, "a", "a", "gs://b/a.errors.parquet?scheme=http", "a"),
        ("s3://b/f/", True, "f", "f", None, "f"),
        ("x/a.parquet", False, "a.parquet", "a", "x/a.errors.parquet", "x/a.parquet"),
        ("-", False, "-", "stdin", "-.errors.parquet", "-"),
        ("s3:/b/a.parquet", False, "a.parquet", "a", "s3:/b/a.errors.parquet", "s3:/b/a.parquet"),
    ],
)
def test_what_can_be_told_of_a_location(location: str, remote: bool, name: str, stem: str, ledger: str | None, twin: str) -> None:
    assert is_remote(location) is remote
    assert (name_of(location), stem_of(location), str(local_twin(location))) == (name, stem, twin)
    if ledger is not None:
        assert beside(location, ".errors.parquet") == ledger


@pytest.mark.parametrize("location", ["s3://b/run", Path("s3://b/run"), "gs://b", "hf://datasets/a/b"])
def test_what_must_be_local_is_refused_also_as_a_path_that_lost_a_slash(location: str | Path) -> None:
    with pytest.raises(InputError, match=r"--work-dir .* is in an object store"):
        require_local(location, "--work-dir")
    require_local("s3", "--work-dir")
    require_local(Path("a/s3:/b"), "--work-dir")


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("s3:///a.parquet", "names no bucket"),
        ("s3://key:secret@bucket/a.parquet", "credentials in a location"),
        ("s3://bucket/a.parquet?regoin=x", "unknown option 'regoin'"),
        ("s3://bucket/a.parquet?region", "unknown option|no option|region"),
        ("hf://owner/name/a.parquet", "names no data set"),
        ("hf://datasets/owner", "names no data set"),
    ],
)
def test_locations_that_are_none(location: str, said: str, small_store: SmallStore) -> None:
    with pytest.raises(InputError, match=said) as caught:
        ParquetSource(location)
    assert "secret" not in str(caught.value)


def test_an_object_is_read_as_the_same_file_here(small_store: SmallStore, tmp_path: Path) -> None:
    small_store.objects["f/a b#1%.parquet"] = parquet()
    (tmp_path / "a.parquet").write_bytes(parquet())
    here, there = ParquetSource(str(tmp_path / "a.parquet")), ParquetSource("s3://bucket/f/a b#1%.parquet")
    assert there.read(["id"]) == here.read(["id"])
    assert (there.rows, there.nbytes, there.stem) == (5, here.nbytes, "a b#1%")
    assert [(i.name, i.sha256) for i in there.inputs] == [("a b#1%.parquet", here.inputs[0].sha256)]


def test_a_prefix_is_its_parquet_files_in_name_order(small_store: SmallStore) -> None:
    small_store.objects |= {
        "f/b.parquet": parquet(2, 2), "f/a.parquet": parquet(2), "f/notes.txt": b"x", "f/.c.parquet": b"x", "g/d.parquet": b"x",
    }  # fmt: skip
    for location in ("s3://bucket/f", "s3://bucket/f/"):
        source = ParquetSource(location)
        assert source.names == ["a.parquet", "b.parquet"]
        assert source.read(["id"]).column(0).to_pylist() == ["r0", "r1", "r2", "r3"]
        assert source.stem == "f"


def test_a_location_says_itself_where_its_server_is(small_store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    small_store.objects["a.parquet"] = parquet()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    host = small_store.endpoint.removeprefix("http://")
    source = ParquetSource(f"s3://bucket/a.parquet?endpoint_override={host}&scheme=http")
    assert (source.names, source.stem, source.rows) == (["a.parquet"], "a", 5)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", small_store.endpoint)
    assert ParquetSource("s3://bucket/a.parquet").rows == 5


def large(rows: int = 40_000) -> bytes:
    """About 10 MB in two columns, a wide one and a narrow one, in three row groups."""
    buffer = io.BytesIO()
    wide = [os.urandom(250) for _ in range(rows)]
    table = pa.table({"wide": pa.array(wide, pa.binary()), "id": pa.array(range(rows))})
    pq.write_table(table, buffer, row_group_size=rows // 3, use_dictionary=False, compression="none")
    return buffer.getvalue()


def test_no_byte_is_fetched_twice_and_none_that_nobody_asked_for(small_store: SmallStore) -> None:
    content = large()
    small_store.objects["a.parquet"] = content
    source = ParquetSource("s3://bucket/a.parquet")
    assert small_store.served <= 2 * 2**20, "the end of the file alone"
    source.read(["id"])
    narrow = small_store.served
    assert narrow < len(content)
    for _ in range(2):
        assert source.read(["wide"]).num_rows == 40_000
        assert source.inputs[0].sha256 == hashlib.sha256(content).hexdigest()
        assert ParquetSource("s3://bucket/a.parquet").inputs == source.inputs
    assert small_store.served == len(content)


def test_where_there_is_no_room_nothing_is_kept_and_all_is_the_same(small_store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    content = large()
    small_store.objects["a.parquet"] = content
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": len(content)}))
    source = ParquetSource("s3://bucket/a.parquet")
    assert source.read(["id"]).column(0).to_pylist() == list(range(40_000))
    assert source.inputs[0].sha256 == hashlib.sha256(content).hexdigest()
    assert len(content) < small_store.served < 1.2 * len(content), "the whole once, and what was read"


def test_an_object_that_is_replaced_while_it_is_read_is_told(small_store: SmallStore) -> None:
    small_store.objects["a.parquet"] = parquet()
    source = ParquetSource("s3://bucket/a.parquet")
    small_store.objects["a.parquet"] = parquet(500)
    with pytest.raises(InputError, match="was changed while it was read"):
        _ = source.inputs


def test_a_store_that_goes_away_in_the_middle_is_not_a_damaged_file(small_store: SmallStore) -> None:
    small_store.objects["a.parquet"] = large()
    source = ParquetSource("s3://bucket/a.parquet")
    small_store.refuse = lambda method, path, query: (400, "ExpiredToken") if method == "GET" else None
    with pytest.raises(InputError, match=r"cannot read s3://bucket/a.parquet: the credentials have expired"):
        source.read(["wide"])


def test_an_object_that_is_no_parquet_file(small_store: SmallStore) -> None:
    small_store.objects |= {"a.parquet": b"no", "empty.parquet": b""}
    for name in small_store.objects:
        with pytest.raises(InputError, match=f"s3://bucket/{name} is not a whole Parquet file"):
            ParquetSource(f"s3://bucket/{name}")


@pytest.mark.parametrize("size", [0, 5, PART, 32 * 2**20 + 1])
def test_an_object_is_what_was_written(size: int, small_store: SmallStore) -> None:
    content = os.urandom(size)
    check_output("s3://bucket/f/a", force=False)
    assert small_store.objects == {}, "nothing shows before"
    with atomic_file("s3://bucket/f/a") as file:
        file.write(content)
        assert small_store.objects == {}
    assert small_store.objects.keys() == {"f/a"}
    assert small_store.objects["f/a"] == content
    assert small_store.uploads == {}, "the upload that was begun is the one that was completed"


def test_an_error_before_the_end_leaves_no_object(small_store: SmallStore) -> None:
    check_output("s3://bucket/a", force=False)
    with pytest.raises(RuntimeError), atomic_file("s3://bucket/a") as file:
        file.write(os.urandom(2 * PART))
        raise RuntimeError
    assert small_store.objects == {}


@pytest.mark.parametrize("part", [1, 4])
@pytest.mark.parametrize("checked", [False, True])
def test_a_part_that_is_refused_leaves_the_old_object(part: int, checked: bool, small_store: SmallStore) -> None:
    small_store.objects["a"] = b"old"
    if checked:
        check_output("s3://bucket/a", force=True)
    small_store.refuse = lambda m, p, query: (403, "AccessDenied") if query.get("partNumber") == [str(part)] else None
    with pytest.raises(InputError, match="cannot write s3://bucket/a: access is denied"), atomic_file("s3://bucket/a") as file:
        file.write(bytes(4 * PART))
    assert small_store.objects == {"a": b"old"}


def test_an_upload_that_was_aborted_since_it_was_begun_is_begun_anew(small_store: SmallStore) -> None:
    check_output("s3://bucket/a", force=False)
    small_store.uploads.clear()
    with atomic_file("s3://bucket/a") as file:
        file.write(b"whole")
    assert small_store.objects == {"a": b"whole"}


def test_an_object_of_another_size_than_was_sent_is_told(small_store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prune_cli.io.stores.atomic.look", lambda location, doing: type("Info", (), {"size": 3}))
    with pytest.raises(InputError, match="s3://bucket/a has 3 bytes and 5 were sent"), atomic_file("s3://bucket/a") as file:
        file.write(b"whole")


def test_an_upload_that_the_store_does_not_complete_leaves_the_old_object(small_store: SmallStore) -> None:
    small_store.objects["a"] = b"old"
    small_store.refuse = lambda method, path, query: (500, "InternalError") if "uploadId" in query and method == "POST" else None
    with pytest.raises(InputError, match="cannot write s3://bucket/a"), atomic_file("s3://bucket/a") as file:
        file.write(b"whole")
    assert small_store.objects == {"a": b"old"}


_WRITER = """
import signal
from prune_cli.io.stores import filesystems
from prune_cli.io.stores.atomic import atomic_file, check_output

def interrupt(*_):
    print("interrupted", flush=True)
    raise KeyboardInterrupt

filesystems._ATTEMPTS = 1000  # it does not give up before it is told to go
signal.signal(signal.SIGINT, interrupt)  # which a job in the background inherits as ignored
check_output("s3://bucket/a", force=False)
with atomic_file("s3://bucket/a") as file:
    file.write(bytes(70 * 2**20))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_kill_in_the_middle_of_an_upload_leaves_no_object(number: signal.Signals, small_store: SmallStore) -> None:
    """A second part never gets its answer until the process has ended, or has said that it was interrupted."""
    told, asked_for = threading.Event(), threading.Event()

    def wait(method: str, path: str, query: dict[str, list[str]]) -> None:
        if query.get("partNumber") == ["2"]:
            asked_for.set()
            told.wait()

    small_store.refuse = wait
    process = subprocess.Popen([sys.executable, "-c", _WRITER], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert asked_for.wait(HANGS)
        process.send_signal(number)
        assert process.stdout.readline() == (b"interrupted\n" if number == signal.SIGINT else b"")
        told.set()
        process.communicate()
    finally:
        told.set()
        process.kill()
        process.communicate()
    assert process.returncode == -number
    assert small_store.objects == {}


def test_pyarrow_itself_completes_what_an_error_cut_short(small_store: SmallStore) -> None:
    """Why its streams are not used as they are: should this fail one day, `_Upload` may become simpler."""
    filesystem, path = open_filesystem("s3://bucket/a")
    with pytest.raises(RuntimeError), filesystem.open_output_stream(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert small_store.objects == {"a": b"half"}


REFUSALS = [
    ((400, "ExpiredToken"), "the credentials have expired", "aws sso login"),
    ((400, "RequestExpired"), "the credentials have expired", "aws sso login"),
    ((403, "InvalidAccessKeyId"), "the credentials are not valid there", "AWS_PROFILE"),
    ((403, "SignatureDoesNotMatch"), "the credentials are not valid there", "AWS_PROFILE"),
    ((403, "AccessDenied"), "access is denied", "s3:ListBucket"),
    ((301, "PermanentRedirect"), "the bucket is in another region", "AWS_REGION"),
    ((503, "SlowDown"), "the store is busy", "later"),
]


@pytest.mark.parametrize(("refusal", "found", "cure"), REFUSALS)
def test_refusals_say_why_and_what_helps(refusal: tuple[int, str], found: str, cure: str, small_store: SmallStore) -> None:
    small_store.refuse = lambda method, path, query: refusal
    for doing, act in (
        ("read", lambda: ParquetSource("s3://bucket/a.parquet")),
        ("write", lambda: check_output("s3://bucket/a.parquet", force=False)),
        ("write", lambda: check_output("s3://bucket/a.parquet", force=True)),
    )[: 1 if refusal[0] == 503 else 3]:  # which is tried again, for a second each
        with pytest.raises(InputError, match=f"cannot {doing} s3://bucket/a.parquet: {found}") as caught:
            act()
        assert cure in str(caught.value.cure)
        assert "\n" not in caught.value.message


def test_a_bucket_that_may_be_read_and_not_written_is_found_before_the_work(small_store: SmallStore) -> None:
    small_store.refuse = lambda method, path, query: (403, "AccessDenied") if method in {"PUT", "POST"} else None
    with pytest.raises(InputError, match="cannot write s3://bucket/a: access is denied"):
        check_output("s3://bucket/a", force=False)


def test_without_credentials_it_says_so(small_store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    small_store.refuse = lambda method, path, query: (403, "AccessDenied")
    with pytest.raises(InputError, match="access is denied, and no credentials were found on this machine"):
        ParquetSource("s3://bucket/a.parquet")


@pytest.mark.parametrize("location", ["s3://bucket/none.parquet", "s3://bucket/none/"])
def test_nothing_there(location: str, small_store: SmallStore) -> None:
    with pytest.raises(InputError, match=f"{location} does not exist"):
        ParquetSource(location)


def test_no_such_bucket_and_none_is_made(small_store: SmallStore) -> None:
    with pytest.raises(InputError, match=r"cannot read s3://none/a.parquet: there is no such bucket"):
        ParquetSource("s3://none/a.parquet")
    with pytest.raises(InputError, match=r"cannot write s3://none/a.parquet: there is no such bucket"):
        check_output("s3://none/a.parquet", force=False)
    assert not [asked for asked in small_store.requests if asked.startswith("PUT")]


def test_a_prefix_without_parquet_files(small_store: SmallStore) -> None:
    small_store.objects["f/a.csv"] = b"x"
    with pytest.raises(InputError, match=r"s3://bucket/f is a prefix without \*.parquet files"):
        ParquetSource("s3://bucket/f")


def test_nobody_there(aws: Callable[[str], None]) -> None:
    aws("http://127.0.0.1:9")
    with pytest.raises(InputError, match="the store cannot be reached") as caught:
        ParquetSource("s3://bucket/a.parquet")
    assert "AWS_ENDPOINT_URL" in str(caught.value.cure)


def test_outputs_that_are_none(small_store: SmallStore) -> None:
    small_store.objects["a"] = b"old"
    with pytest.raises(InputError, match="output s3://bucket/a exists already") as caught:
        check_output("s3://bucket/a", force=False)
    assert "--force" in str(caught.value.cure)
    check_output("s3://bucket/a", force=True)
    for location in ("s3://bucket", "s3://bucket/", "s3://bucket/f/"):
        with pytest.raises(InputError, match="names no object"):
            check_output(location, force=False)
    with pytest.raises(InputError, match="is on the Hub"):
        check_output("hf://datasets/owner/name/a.parquet", force=True)


def test_a_temporary_folder_without_room(small_store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(InputError, match="No space left on device in ") as caught, atomic_file("s3://bucket/a"):
        pass
    assert "TMPDIR" in str(caught.value.cure)


def test_a_copy_for_several_processes(small_store: SmallStore, tmp_path: Path) -> None:
    small_store.objects |= {"f/a.parquet": parquet(2), "f/b.parquet": parquet(2, 2)}
    for location in ("s3://bucket/f", "s3://bucket/f/b.parquet"):
        copy = ParquetSource(fetch(location, tmp_path / "copy"))
        assert copy.inputs == ParquetSource(location).inputs
    assert fetch(str(tmp_path), tmp_path / "other") == str(tmp_path)


class FakeHub:
    """Stands for huggingface_hub's file system: fsspec's own of memory, with what the Hub tells of large files."""

    @staticmethod
    def install(monkeypatch: pytest.MonkeyPatch, told: str | None) -> Any:
        huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
        memory = pytest.importorskip("fsspec.implementations.memory", reason="fsspec is not installed")

        class Hub(memory.MemoryFileSystem):  # type: ignore[misc, name-defined]
            store: ClassVar[dict[str, Any]] = {}
            pseudo_dirs: ClassVar[list[str]] = [""]

            def info(self, path: str, **more: Any) -> dict[str, Any]:
                found = super().info(path, **more)
                return {**found, "lfs": {"sha256": told}} if told is not None else found

        monkeypatch.setattr(huggingface_hub, "HfFileSystem", Hub)
        hub = Hub()
        hub.pipe("/datasets/owner/name/data/b.parquet", parquet(2, 2))
        hub.pipe("/datasets/owner/name/data/a.parquet", parquet(2))
        hub.pipe("/datasets/owner/name/README.md", b"x")
        return hub


def test_a_data_set_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHub.install(monkeypatch, None)
    one, both = ParquetSource("hf://datasets/owner/name/data/b.parquet"), ParquetSource("hf://datasets/owner/name/data")
    assert one.read(["id"]).column(0).to_pylist() == ["r2", "r3"]
    assert (both.names, both.rows) == (["a.parquet", "b.parquet"], 4)
    assert one.inputs[0].sha256 == hashlib.sha256(parquet(2, 2)).hexdigest()
    with pytest.raises(InputError, match="does not exist"):
        ParquetSource("hf://datasets/owner/name/c.parquet")
    with pytest.raises(InputError, match="there is no such data set, or it is private") as caught:
        ParquetSource("hf://datasets/owner/other/c.parquet")
    assert "HF_TOKEN" in str(caught.value.cure)


def test_a_hash_that_the_hub_tells_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHub.install(monkeypatch, "ab" * 32)
    assert ParquetSource("hf://datasets/owner/name/data/b.parquet").inputs[0].sha256 == "ab" * 32


def test_the_hub_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UnavailableError, match=r"pip install 'prune-cli\[hub\]'"):
        ParquetSource("hf://datasets/owner/name/a.parquet")


def test_nothing_of_the_stores_is_imported_for_local_files(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet())
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from prune_cli.io.parquet.tables import ParquetSource; ParquetSource('a.parquet').inputs; "
            "print([m for m in ('huggingface_hub', 'fsspec', 'boto3') if m in sys.modules])",
        ],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert said.strip() == "[]"


def test_a_list_is_read_from_a_store_too(small_store: SmallStore) -> None:
    small_store.objects["ids.txt"] = b"a\nb\n"
    with open_input("s3://bucket/ids.txt") as file:
        assert file.read() == b"a\nb\n"
