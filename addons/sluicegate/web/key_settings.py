"""What Bifrost sets per provider key and this gateway does not: taken where it changes nothing, else refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, StrictBool

from sluicegate.policy.fields import Text

EVERYTHING = "*"
"""Bifrost's name for every model."""


def _refuse_single_models(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the models that a provider's key is for where they are all or none. Raises ValueError for single ones."""
    if any(name != EVERYTHING for name in names):
        raise ValueError(
            "single models are not supported here, for a key serves all of its provider's: which of them a caller may use is said "
            "by allowed_models in provider_configs, and which keys serve a caller by key_names"
        )
    return names


def _refuse_all(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return an empty list of models. Raises ValueError for any other."""
    if EVERYTHING in names:
        raise ValueError("'*' is not supported here: a key that is to serve no model has the weight 0")
    return _refuse_single_models(names)


def _refuse_unlike(value: bool, why: str) -> Callable[[bool], bool]:
    """Return what accepts one setting of a switch, and says ``why`` not the other."""

    def check(given: bool) -> bool:
        if given is not value:
            raise ValueError(f"'{str(given).lower()}' is not supported here: {why}")
        return given

    return check


Enabled = Annotated[StrictBool, AfterValidator(_refuse_unlike(True, "a key that is not to be used has the weight 0"))]
NotForBatches = Annotated[StrictBool, AfterValidator(_refuse_unlike(False, "no key is kept for batches"))]

EveryModel = Annotated[tuple[Text, ...], AfterValidator(_refuse_single_models)]
NoModel = Annotated[tuple[Text, ...], AfterValidator(_refuse_all)]
