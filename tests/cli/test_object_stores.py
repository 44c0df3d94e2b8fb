"""Commands whose inputs and outputs are in object stores: the same bytes as with files of this machine."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write
from object_stores import SmallStore
from waiting import HANGS, wait_until
from warm import WarmCommands

SCORE = ("--method", "cg", "-q")
SELECT = ("--method", "top", "--fraction", "0.5", "-q")


def keys(bucket: Any) -> list[str]:
    return sorted(one.key for one in bucket.objects.all())


def content(bucket: Any, key: str) -> bytes:
    return bucket.Object(key).get()["Body"].read()  # type: ignore[no-any-return]


@pytest.fixture
def there(bucket: Any, vectors: Path) -> str:
    """The bucket's location, with ``data/vectors.parquet`` in it."""
    bucket.put_object(Key="data/vectors.parquet", Body=vectors.read_bytes())
    return f"s3://{bucket.name}"


def test_scores_selections_and_merges_are_those_of_local_files(prune: Any, bucket: Any, there: str, vectors: Path) -> None:
    for place in (str(prune.folder), f"{there}/out"):
        data = f"{there}/data/vectors.parquet" if place.startswith("s3:") else vectors
        prune("score", data, *SCORE, "--save-features", f"{place}/f.parquet", "-o", f"{place}/a.parquet")
        prune("score", data, "--method", "moderate", "-q", "-o", f"{place}/b.parquet")
        prune("manifest", "merge", f"{place}/a.parquet", f"{place}/b.parquet", "-q", "-o", f"{place}/ab.parquet")
        said = prune("select", f"{place}/ab.parquet", *SELECT, "-p", "key=cg", "-o", f"{place}/s.parquet")
        assert said.stdout.decode().strip() == f"{place}/s.parquet"
        prune("select", f"{place}/ab.parquet", "--method", "random", "--count", "10,20", "-q", "-o", f"{place}/r.parquet")
        prune(
            "manifest", "merge", f"{place}/s.parquet", f"{place}/r-20.parquet", "--how", "union", "-q", "-o", f"{place}/u.parquet",
        )  # fmt: skip
        prune(
            "manifest", "top-up", f"{place}/s.parquet", "--scores", f"{place}/ab.parquet", "-p", "key=cg", "--count", "40", "-q",
            "-o", f"{place}/t.parquet",
        )  # fmt: skip
        prune("manifest", "export", f"{place}/s.parquet", "--data", data, "--to", "ids", "-q", "-o", f"{place}/ids.txt")
        prune("select", f"{place}/ab.parquet", *SELECT, "-p", "key=cg", "--keep", f"{place}/ids.txt", "-o", f"{place}/k.parquet")
        prune(
            "select", f"{place}/ab.parquet", *SELECT, "-p", "key=cg", "--drop", f"{place}/r-10.parquet", "-o", f"{place}/d.parquet"
        )  # fmt: skip
        prune("manifest", "check", data, "-q")
        prune("report", f"{place}/ab.parquet", f"{place}/s.parquet", "--data", data, "-q", "-o", f"{place}/page.html")
    letters = ("a", "ab", "b", "d", "f", "k", "r-10", "r-20", "s", "t", "u")
    names = sorted([*(f"{letter}.parquet" for letter in letters), "ids.txt", "page.html"])
    assert keys(bucket) == ["data/vectors.parquet", *(f"out/{name}" for name in names)]
    for name in names:
        assert content(bucket, f"out/{name}") == (prune.folder / name).read_bytes(), name
    left = sorted(path.name for path in prune.folder.iterdir())
    assert left == sorted([*names, "vectors.parquet"]), "nothing of the remote runs stays here"


def test_training_and_comparing(prune: Any, bucket: Any, there: str, vectors: Path) -> None:
    prune("score", vectors, *SCORE, "-o", "a.parquet")
    prune("select", "a.parquet", *SELECT, "-o", "s.parquet")
    bucket.put_object(Key="s.parquet", Body=(prune.folder / "s.parquet").read_bytes())
    for place, data in ((".", vectors), (there, f"{there}/data/vectors.parquet")):
        run = "run-here" if place == "." else "run-there"
        (prune.folder / run).mkdir()
        prune("train", data, "--subset", f"{place}/s.parquet", "--epochs", "1", "-q", "-o", f"{run}/run")
        prune("evaluate", f"{run}/run", data, "--data", data, "--subset", f"{place}/s.parquet", "-q", "-o", f"{place}/e.parquet")
        prune(
            "compare", f"{place}/s.parquet", "--data", data, "--test", data, "--steps", "3", "--seeds", "1", "--jobs", "1", "-q",
            "-o", f"{place}/c.parquet",
        )  # fmt: skip
    for name in ("model.safetensors", "model.json"):
        assert (prune.folder / "run-here" / "run" / name).read_bytes() == (prune.folder / "run-there" / "run" / name).read_bytes()
    assert content(bucket, "e.parquet") == (prune.folder / "e.parquet").read_bytes()
    here, remote = pq.read_table(prune.folder / "c.parquet"), pq.read_table(io.BytesIO(content(bucket, "c.parquet")))
    timed = {"train_seconds", "break_even_runs", "cost_seconds", "seconds"}
    assert [r for r in remote.to_pylist() if not timed & {r["metric"]}] == [r for r in here.to_pylist() if not timed & {r["metric"]}]
    assert remote.schema.metadata == here.schema.metadata


def test_a_prefix_is_one_data_set(prune: Any, bucket: Any, there: str, vectors: Path) -> None:
    table = pq.read_table(vectors)
    (prune.folder / "parts").mkdir()
    for name, start in (("b", 30), ("a", 0)):
        pq.write_table(table.slice(start, 30), prune.folder / "parts" / f"{name}.parquet")
        bucket.upload_file(str(prune.folder / "parts" / f"{name}.parquet"), f"parts/{name}.parquet")
    prune("score", "parts", *SCORE, "-o", "here.parquet")
    prune("score", f"{there}/parts/", *SCORE, "-o", f"{there}/there.parquet")
    assert content(bucket, "there.parquet") == (prune.folder / "here.parquet").read_bytes()
    prune("score", f"{there}/parts", *SCORE)
    assert (prune.folder / "parts.scores.parquet").read_bytes() == (prune.folder / "here.parquet").read_bytes()


def test_stores_files_and_pipes_mix(prune: Any, bucket: Any, there: str, vectors: Path) -> None:
    bytes_out = prune("score", f"{there}/data/vectors.parquet", *SCORE, "-o", "-").stdout
    prune("select", "-", *SELECT, "-o", f"{there}/s.parquet", stdin=bytes_out)
    prune("select", "-", *SELECT, "-o", "s.parquet", stdin=bytes_out)
    assert content(bucket, "s.parquet") == (prune.folder / "s.parquet").read_bytes()
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    prune("select", f"{there}/s.parquet", "--method", "random", "--count", "5", "-q", "-o", f"{there}/r.parquet", env=env)
    assert pq.read_table(io.BytesIO(content(bucket, "r.parquet")))["selected"].to_pylist().count(True) == 5


def test_an_output_that_is_there_wants_force(prune: Any, bucket: Any, there: str) -> None:
    bucket.put_object(Key="a.parquet", Body=b"old")
    said = prune("score", f"{there}/data/vectors.parquet", *SCORE, "-o", f"{there}/a.parquet", check=2).stderr.decode()
    assert "exists already" in said
    assert "--force" in said
    assert content(bucket, "a.parquet") == b"old"
    prune("score", f"{there}/data/vectors.parquet", *SCORE, "--force", "-o", f"{there}/a.parquet")
    assert content(bucket, "a.parquet")[:4] == b"PAR1"


def test_the_ledger_and_the_curve_go_beside_the_output(prune: Any, bucket: Any, there: str, vectors: Path) -> None:
    table = pq.read_table(vectors)
    values = np.stack(table["embedding"].to_pylist()).astype(np.float32)
    values[3] = 0
    bad = table.set_column(2, "embedding", pa.FixedSizeListArray.from_arrays(values.ravel(), 8))
    pq.write_table(bad, prune.folder / "bad.parquet")
    bucket.upload_file(str(prune.folder / "bad.parquet"), "bad.parquet")
    done = prune("score", f"{there}/bad.parquet", *SCORE, "-o", f"{there}/out/a.parquet", check=3)
    assert f"see {there}/out/a.errors.parquet" in done.stderr.decode()
    assert keys(bucket) == ["bad.parquet", "data/vectors.parquet", "out/a.errors.parquet"]
    prune("score", f"{there}/data/vectors.parquet", *SCORE, "-o", f"{there}/out/a.parquet")
    assert "out/a.errors.parquet" not in keys(bucket), "a ledger of an earlier run does not outlive its errors"
    said = prune(
        "select", f"{there}/out/a.parquet", "--features", f"{there}/data/vectors.parquet", "--method", "window", "--fraction",
        "0.2,0.4", "--plot", "--json", "-o", f"{there}/out/w.parquet",
    )  # fmt: skip
    assert {"out/w-0.2.parquet", "out/w-0.4.parquet", "out/w.curve.parquet", "out/w.curve.png"} <= set(keys(bucket))
    assert json.loads(said.stdout)["curve"] == f"{there}/out/w.curve.parquet"
    assert not list(prune.folder.glob("*.work"))


def test_features_and_dynamics_are_saved_there(prune: Any, bucket: Any, there: str) -> None:
    prune(
        "score", f"{there}/data/vectors.parquet", "--method", "el2n", "--epochs", "1", "-q", "-o", f"{there}/e.parquet",
        "--save-features", f"{there}/f.parquet", "--save-dynamics", f"{there}/d.parquet",
    )  # fmt: skip
    assert keys(bucket) == ["d.parquet", "data/vectors.parquet", "e.parquet", "f.parquet"]
    prune("score", "--from-dynamics", f"{there}/d.parquet", "--method", "aum", "-q", "-o", f"{there}/aum.parquet")
    assert pq.read_schema(io.BytesIO(content(bucket, "aum.parquet"))).names == ["id", "label", "aum"]


def test_a_manifest_of_images_is_made_and_read_there(prune: Any, bucket: Any, there: str, pictures: Path) -> None:
    bucket.upload_file(str(pictures), "pictures.parquet")
    prune("score", pictures, *SCORE, "-o", "here.parquet")
    prune("score", f"{there}/pictures.parquet", *SCORE, "-o", f"{there}/there.parquet")
    assert content(bucket, "there.parquet") == (prune.folder / "here.parquet").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("train", "v.parquet", "-o", "s3://bucket/run"), "the run folder s3://bucket/run"),
        (("score", "v.parquet", "--work-dir", "s3://bucket/w"), "--work-dir s3:/bucket/w"),
        (("score", "v.parquet", "--model", "s3://bucket/run"), "--model s3://bucket/run"),
        (("score", "v.parquet", "--save-kernel", "s3://bucket/k"), "--save-kernel s3:/bucket/k"),
        (("score", "v.parquet", "--root", "s3://bucket"), "--root s3:/bucket"),
        (("evaluate", "gs://bucket/run", "v.parquet"), "--run gs:/bucket/run"),
        (("compare", "s", "--data", "d", "--test", "t", "--costs", "s3://bucket/c.json"), "--costs s3://bucket/c.json"),
        (("manifest", "import", "s3://bucket/i.csv", "--from", "csv", "--data", "v.parquet"), "what another tool wrote"),
        (("report", "v.parquet", "--plots", "s3://bucket/p"), "--plots s3:/bucket/p"),
    ],
)
def test_what_must_be_here_is_told_before_any_work(arguments: tuple[str, ...], what: str, prune: Any) -> None:
    said = prune(*arguments, check=2).stderr.decode()
    assert what in said
    assert "is in an object store, and must be on this machine" in said
    assert list(prune.folder.iterdir()) == []


def test_an_exported_folder_stays_here(prune: Any, vectors: Path) -> None:
    said = prune("manifest", "export", vectors, "--data", vectors, "--to", "parquet", "-o", "s3://bucket/x", check=2)
    assert "the folder that --to parquet makes, s3://bucket/x is in an object store" in said.stderr.decode()


def test_errors_are_one_line_and_a_cure(prune: Any, small_store: SmallStore, vectors: Path) -> None:
    small_store.refuse = lambda method, path, query: (400, "ExpiredToken")
    said = prune("score", "s3://bucket/data.parquet", check=2).stderr.decode()
    assert said == (
        "prune: cannot read s3://bucket/data.parquet: the credentials have expired\n"
        "  cure: renew them: aws sso login, or set AWS_PROFILE, or a new AWS_SESSION_TOKEN\n"
    )
    small_store.refuse = lambda method, path, query: (403, "AccessDenied") if method in {"POST", "PUT"} else None
    said = prune("score", vectors, *SCORE, "-o", "s3://bucket/a.parquet", check=2).stderr.decode()
    assert said.startswith("prune: cannot write s3://bucket/a.parquet: access is denied\n")
    assert not list(prune.folder.glob("*.work")), "told before the work"
    assert small_store.objects == {}


def test_a_kill_while_the_result_is_sent_leaves_nothing(prune: Any, warm: WarmCommands, small_store: SmallStore, tmp_path: Path) -> None:
    scores = write(tmp_path / "scores.parquet", {"id": [f"r{i}" for i in range(500)], "el2n": np.linspace(0, 1, 500)})
    told = threading.Event()
    small_store.refuse = lambda method, path, query: told.wait(HANGS) and None if "partNumber" in query else None
    command = ["-m", "prune_cli", "select", scores, *SELECT, "-o", "s3://bucket/s.parquet"]
    with warm.start(*command, cwd=tmp_path) as process:
        wait_until(lambda: any("partNumber" in asked for asked in small_store.requests))
        process.send_signal(signal.SIGKILL)
        process.wait(HANGS)
        told.set()
    assert small_store.objects == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.parquet"]
    prune("select", scores, *SELECT, "-o", "s3://bucket/s.parquet")
    assert small_store.objects.keys() == {"s.parquet"}
