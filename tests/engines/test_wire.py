"""Parcels over a pipe."""

from __future__ import annotations

import io
from array import array

from prune_cli.engines.serving import read_parcel, write_parcel


def test_parcels_come_as_they_were_and_one_that_is_cut_does_not() -> None:
    file = io.BytesIO()
    write_parcel(file, {"n": [1, "ä\n"]}, [b"", array("q", [1, 2]), memoryview(b"xyz")])
    write_parcel(file, "alone")
    file.write(b"[null, [32]]\n12345")
    file.seek(0)
    assert read_parcel(file) == ({"n": [1, "ä\n"]}, [b"", array("q", [1, 2]).tobytes(), b"xyz"])
    assert read_parcel(file) == ("alone", [])
    assert read_parcel(file) is None and read_parcel(file) is None


def test_a_line_that_is_cut_is_the_end() -> None:
    assert read_parcel(io.BytesIO(b'["half')) is None
