"""The tables of ``prune manifest export --to`` and ``import --from``: an entry is all that a new one needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import pytest
from making import write

from prune_cli.core.errors import InputError
from prune_cli.io.foreign.exports import TARGETS, FileTarget
from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.manifests.selected_rows import SelectedRows
from prune_cli.stages.manifest import readers
from prune_cli.stages.manifest.exports import ExportOptions, export
from prune_cli.stages.manifest.tables import ORIGINS


def test_an_export_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_labels(file: BinaryIO, rows: SelectedRows) -> None:
        file.write("".join(f"{sample.label}\n" for sample in rows.samples(inputs=False)).encode())

    data = write(tmp_path / "d.parquet", {"id": ["a", "b", "c"], "label": ["x", "y", "z"]})
    kept = write(tmp_path / "kept.parquet", {"id": ["c", "a"]})
    options = ExportOptions(str(kept), DataOptions(str(data)), "labels", output=str(tmp_path / "labels.txt"))
    with pytest.raises(InputError, match="unknown target 'labels'"):
        export(options)
    monkeypatch.setitem(TARGETS, "labels", FileTarget("labels", ".txt", write_labels))
    export(options)
    assert (tmp_path / "labels.txt").read_text() == "x\nz\n"


@pytest.mark.parametrize("name", ORIGINS)
def test_every_origin_has_its_reader(name: str) -> None:
    reader: Any = getattr(readers, ORIGINS[name].reader)
    assert callable(reader) and reader.__module__ == readers.__name__
