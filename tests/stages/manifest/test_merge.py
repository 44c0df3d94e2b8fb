import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from making import write

from prune_cli.core.errors import InputError
from prune_cli.io.parquet.provenance import read_provenance
from prune_cli.stages.manifest.merge import MergeOptions, merge


def scored(path: Path, columns: dict[str, object], direction: dict[str, str]) -> Path:
    write(path, columns)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"prune": json.dumps({"score_direction": direction})}), path)
    return path


def test_columns_of_all_by_id_with_their_directions(tmp_path: Path) -> None:
    a = scored(tmp_path / "a.parquet", {"id": [3, 1, 2], "label": [0, 1, 0], "mine": [0.3, 0.1, 0.2]}, {"mine": "easier"})
    b = scored(tmp_path / "b.parquet", {"id": [1, 2, 3], "cg": [1.0, 2.0, 3.0], "label": [1, 0, 0]}, {"cg": "harder"})
    outcome = merge(MergeOptions((str(a), str(b)), output=str(tmp_path / "m.parquet")))
    assert outcome.outputs == [str(tmp_path / "m.parquet")]
    table = pq.read_table(tmp_path / "m.parquet")
    assert table.to_pydict() == {"id": [3, 1, 2], "label": [0, 1, 0], "mine": [0.3, 0.1, 0.2], "cg": [3.0, 1.0, 2.0]}
    found = read_provenance(table.schema)
    assert found is not None and found["score_direction"] == {"mine": "easier", "cg": "harder"}
    assert [i["name"] for i in found["inputs"]] == ["a.parquet", "b.parquet"]


def test_what_does_not_go_together_is_named(tmp_path: Path) -> None:
    a = write(tmp_path / "a.parquet", {"id": ["x", "y"], "label": [0, 1], "cg": np.arange(2.0)})
    less = write(tmp_path / "less.parquet", {"id": ["x"], "el2n": [1.0]})
    more = write(tmp_path / "more.parquet", {"id": ["x", "y", "z"], "el2n": np.arange(3.0)})
    same = write(tmp_path / "same.parquet", {"id": ["x", "y"], "cg": np.arange(2.0)})
    other = write(tmp_path / "other.parquet", {"id": ["x", "y"], "label": [0, 0], "el2n": np.arange(2.0)})
    none = write(tmp_path / "none.parquet", {"el2n": np.arange(2.0)})
    for second, message in (
        (less, r"1 id\(s\) of .*a.parquet are not in .*less.parquet: y"),
        (more, r"1 id\(s\) of .*more.parquet are not in .*a.parquet: z"),
        (same, "both have a column 'cg'"),
        (other, r"1 label\(s\) of .*other.parquet are not those of .*such as that of y"),
        (none, "no column of ids"),
    ):
        with pytest.raises(InputError, match=message):
            merge(MergeOptions((str(a), str(second)), output=str(tmp_path / "m.parquet")))
    with pytest.raises(InputError, match="one is given"):
        merge(MergeOptions((str(a),)))
    assert not (tmp_path / "m.parquet").exists()


def test_three_files_and_the_plan(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n}.parquet", {"id": [1, 2], n: [0.0, 1.0]}) for n in ("a", "b", "c")]
    options = MergeOptions(tuple(map(str, files)), output=str(tmp_path / "m.parquet"), plan=True)
    assert merge(options).summary["plan"]["columns"] == 3 and not (tmp_path / "m.parquet").exists()
    merge(MergeOptions(tuple(map(str, files)), output=str(tmp_path / "m.parquet")))
    assert pq.read_schema(tmp_path / "m.parquet").names == ["id", "a", "b", "c"]
