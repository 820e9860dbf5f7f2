"""Runs the example notebook: `python -m tests.docs.notebooks` writes its outputs anew."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import nbclient
import nbformat

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/notebook.ipynb"


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of now, run in a copy of `docs/`, where it finds the sample data.

    Args:
        folder: gets the copy.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell has failed.
    """
    for name in ("configs", "sample_data"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "docs").mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    own = {"BATCHRUN_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / "ipython"), "NO_COLOR": "1"}
    with patch.dict(os.environ, own):
        client = nbclient.NotebookClient(
            notebook, timeout=250, kernel_name="python3", resources={"metadata": {"path": str(folder / "docs")}}, coalesce_streams=True
        )
        client.execute()
    return notebook


def steady(notebook: nbformat.NotebookNode) -> list[str]:
    """Its outputs without what differs from run to run: ids, times and rates."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            text = "".join(output.get("text", "")) + "".join(
                output.get("data", {}).get("text/html", output.get("data", {}).get("text/plain", ""))
            )
            text = re.sub(r"\d{8}T\d{6}-[0-9a-f]{10}", "ID", text)
            if output.get("name") == "stderr":  # a progress bar
                text = "".join(re.findall(r"[\w-]+: 100%|\d+/\d+", text))
            texts.append(re.sub(r"[\d,]+\.\d+", "N", text))
    return texts


def main() -> None:
    """Write the outputs of the notebook anew."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(Path(folder))
    for cell in notebook.cells:
        cell.metadata = {}  # when each was run
    notebook.metadata = {name: notebook.metadata[name] for name in ("kernelspec", "language_info") if name in notebook.metadata}
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
