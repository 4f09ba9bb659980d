"""The keys of Vertex AI in a policy: the Google account of each, and the project and location that they share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from sluicegate.policy.key_schema import ProviderKey, VertexKeyConfig
from sluicegate.policy.secrets import ENV, is_reference, resolve, variable_of
from sluicegate.providers.signing.google import MACHINE, GoogleAccount, problem_of
from sluicegate.providers.vertex.paths import GLOBAL, Place

_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}")
_REGION = re.compile(r"[a-z][a-z0-9-]{0,39}")

ONE_PLACE = "the keys of one provider share project_id and region: write the same ones for all of them"


def config_of(key: ProviderKey) -> VertexKeyConfig:
    """Return what a key says of its account: nothing, for the Google credentials of the gateway's machine."""
    return key.vertex_key_config or VertexKeyConfig()


def place_of(keys: Iterable[ProviderKey], env: Mapping[str, str], report: Callable[[int, str], None]) -> Place | None:
    """Return project and location of a provider's keys; None for no keys. ``report`` gets a key's index and what is wrong."""
    found: Place | None = None
    for i, key in enumerate(keys):
        config = config_of(key)
        project, region = (
            resolve(written, env, sources=(ENV,)).value or "" for written in (config.project_id or "", config.region or GLOBAL)
        )
        place = Place(project, region)
        if _PROJECT.fullmatch(project) is None or _REGION.fullmatch(region) is None:
            report(i, "vertex_key_config needs the project_id of a Google Cloud project, and a region such as global or us-east5")
        elif found not in (None, place):
            report(i, ONE_PLACE)
        else:
            found = place
    return found


def source_of(config: VertexKeyConfig) -> str:
    """Return where an account's credentials come from, without showing any."""
    written = config.auth_credentials
    return MACHINE if written is None else written if is_reference(written) else "literal"


def google_account(
    config: VertexKeyConfig, fetch: Callable[[str], str | None], warn: Callable[[str], None]
) -> GoogleAccount | None:
    """Return the account whose tokens a key's calls carry; None where it cannot be used. ``fetch`` returns a secret."""
    if config.auth_credentials is None:
        return GoogleAccount()
    info = fetch(config.auth_credentials)
    if info is None:
        return None
    problem = problem_of(info)
    if problem is not None:
        warn(problem)
        return None
    variable = variable_of(config.auth_credentials)
    return GoogleAccount(info, (variable,) if variable is not None else ())
