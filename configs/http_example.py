"""Starts the service of http_service.yaml on a free port, runs the job against it and tells what came of it."""

from __future__ import annotations

from pathlib import Path

from atmosphere_service import serving

import batchrun


def main() -> None:
    """Run the job, then name the airports that took more than one attempt and those that failed."""
    with serving() as base_url:
        execution = batchrun.execute(
            Path(__file__).with_name("http_service.yaml"),
            overrides={"resources.atmosphere.base_url": base_url},
        )
    rows = execution.results.select(["source_item_id", "status", "attempts", "error"]).to_pylist()
    print(f"{execution.status}: {len(rows)} airports")
    print("took more than one attempt:", *(row["source_item_id"] for row in rows if row["attempts"] > 1))
    for row in rows:
        if row["status"] == "failed":
            print(f"failed: {row['source_item_id']}: {row['error']['message']}")


if __name__ == "__main__":
    main()
