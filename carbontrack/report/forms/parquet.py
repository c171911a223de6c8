"""Parquet: the same as CSV, with types."""

from __future__ import annotations

import io

from carbontrack.errors import CarbontrackError
from carbontrack.report.document import Document
from carbontrack.report.forms import Form


def _render(document: Document) -> bytes:
    """Raises CarbontrackError without a Parquet engine."""
    import pandas as pd

    out, rows = io.BytesIO(), document.frame()
    if "started" in rows:
        rows["started"] = pd.to_datetime(rows["started"], utc=True, format="ISO8601")
    try:
        rows.to_parquet(out, index=False)
    except ImportError:
        raise CarbontrackError(
            "Parquet needs pyarrow.", hint="Install it: pip install pyarrow", exit_code=1
        ) from None
    return out.getvalue()


FORM = Form(_render, (".parquet",), of_runs=True, binary=True)
