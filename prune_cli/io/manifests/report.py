"""Report manifests: one row a number."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_TEXT, _NUMBER, _WHOLE = pa.string(), pa.float64(), pa.int64()
_OF_A_RUN = {"metric": _TEXT, "value": _NUMBER, "unit": _TEXT, "seed": _WHOLE, "split": _TEXT, "subset": _TEXT}

REPORT = pa.schema({**_OF_A_RUN, "class": _TEXT, "predicted": _TEXT})
"""What ``evaluate`` writes of one run."""

_OF_MANY = {"method": _TEXT, "fraction": _NUMBER, "rows": _WHOLE, "budget": _TEXT, "against": _TEXT, "low": _NUMBER, "high": _NUMBER}

COMPARISON = pa.schema([*REPORT, *pa.schema(_OF_MANY)])
"""What ``compare`` writes of many: of a single training where ``seed`` is there, else over the seeds; with ``against`` a paired
difference to that baseline; ``low`` and ``high`` bound the value."""


class ReportRows:
    """Rows of a report manifest, filled one by one.

    Args:
        schema: `REPORT` or `COMPARISON`.
        common: columns that every row has alike.
    """

    def __init__(self, schema: pa.Schema, **common: Any) -> None:
        self._schema, self._common = schema, common
        self._rows: list[dict[str, Any]] = []

    def add(self, metric: str, value: float | None, unit: str, **columns: Any) -> None:
        """Add one number; ``class_name`` fills the column ``class``."""
        if "class_name" in columns:
            columns["class"] = columns.pop("class_name")
        self._rows.append({**self._common, "metric": metric, "value": value, "unit": unit, **columns})

    def select(self, metric: str) -> list[dict[str, Any]]:
        """Return the rows of one metric."""
        return [row for row in self._rows if row["metric"] == metric]

    def table(self) -> pa.Table:
        """Return all rows."""
        return pa.Table.from_pylist(self._rows, self._schema)
