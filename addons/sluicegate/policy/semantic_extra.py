"""The extra ``semantic``: whether the packages that similar questions are found with are installed."""

from __future__ import annotations

import importlib.util

INSTALL = "pip install 'sluicegate[semantic]'"
NOT_INSTALLED = f"similar questions are found with packages that are not installed here: {INSTALL}"


def is_installed() -> bool:
    """Return whether the extra is installed, without importing it."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in ("wordllama", "numpy"))
    except ValueError:
        # A module that was blocked has no specification at all.
        return False
