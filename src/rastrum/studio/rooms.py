"""The rooms by name, in the order of the page."""

from __future__ import annotations

from .requests import Request
from .watch import Watch

ROOMS: dict[str, type[Request]] = {"watch": Watch}
