"""Makes airports.parquet from the airportsdata package: `python sample_data/make_airports.py`.

The rows are sorted by ICAO identifier, so the same package version and pyarrow version give the same file.
"""

from __future__ import annotations

from pathlib import Path

import airportsdata
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = {
    "icao": ("icao", pa.string()),
    "iata": ("iata", pa.string()),
    "name": ("name", pa.string()),
    "city": ("city", pa.string()),
    "region": ("subd", pa.string()),
    "country": ("country", pa.string()),
    "elevation_ft": ("elevation", pa.float64()),
    "latitude": ("lat", pa.float64()),
    "longitude": ("lon", pa.float64()),
    "timezone": ("tz", pa.string()),
}
"""Our column name: the name in the source, and the type. Empty texts become null."""


def main() -> None:
    """Write airports.parquet beside this file."""
    rows = sorted(airportsdata.load("ICAO").values(), key=lambda row: row["icao"])
    table = pa.table(
        {ours: pa.array([None if row[theirs] == "" else row[theirs] for row in rows], kind) for ours, (theirs, kind) in COLUMNS.items()}
    )
    path = Path(__file__).with_name("airports.parquet")
    # Small row groups, so that a slice of the file is read without the rest.
    pq.write_table(table, path, compression="zstd", compression_level=19, row_group_size=8192)
    print(f"{path}: {table.num_rows:,} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
