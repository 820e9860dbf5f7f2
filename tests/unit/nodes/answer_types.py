"""Types that models answer with, imported by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, TypedDict

from pydantic import BaseModel


class Part(BaseModel):
    name: str
    bought: date | None = None


class Ticket(BaseModel):
    label: Literal["bug", "question"]
    parts: list[Part] = []


@dataclass
class Point:
    x: float
    y: float = 0.0


class Named(TypedDict):
    name: str


NOT_A_TYPE = object()


class Bag(TypedDict, total=False):
    things: list[Named]
    first: Named | None
