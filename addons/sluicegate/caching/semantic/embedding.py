"""Embed texts by a small model that comes with the extra ``semantic``: without a network, loaded when the first text comes.

Loading takes most of a second of processor time and some 100 MB, so it is done in a thread, as is all embedding.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

DIMENSIONS = 256


class Embedder:
    """The model, loaded once. Its methods block; call them in a thread."""

    def __init__(self) -> None:
        self._model: Any = None
        self._is_broken = False
        self._lock = Lock()

    @property
    def is_loaded(self) -> bool:
        """Whether the next text will not wait for the model."""
        return self._model is not None

    def embed(self, texts: list[str]) -> Any:
        """Return an array with a row of unit length for each text. Raises whatever keeps the model from being loaded."""
        with self._lock:
            if self._model is None:
                self._model = self._load()
            return self._model.embed(texts, norm=True)

    def _load(self) -> Any:
        if self._is_broken:
            raise RuntimeError("the model could not be loaded")
        # Trying again for each question would cost a second each.
        self._is_broken = True
        import wordllama

        # The package ships its tokenizer in a folder that it does not look in by itself, and would then download it.
        found = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
        self._is_broken = False
        return found
