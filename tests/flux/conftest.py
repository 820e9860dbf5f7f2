"""The tests of the `flux` node. Flux needs Python 3.12 or newer: `make test` runs them in an environment of their own.

Elsewhere they are skipped, which pytest says.
"""

from __future__ import annotations

from tests.e2e.conftest import _own_functions, _same_list, project

__all__ = ["_own_functions", "_same_list", "project"]
