"""Clients: executions in processes of their own, started, found and steered from a program."""

from __future__ import annotations


class Client:
    """x."""


class AsyncClient:
    """x."""
