"""Where a policy sends its secrets, and which of them a change over HTTP may not name anew or send elsewhere.

A reference such as ``file:PATH`` has the gateway read its machine, and a provider's key goes to its ``base_url``: whoever has
stolen an admin's session could have any file, variable or key of the machine sent to a place of their own. So over HTTP a
reference is only kept, and a secret goes only where it goes already. The files themselves may be edited without such bounds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sluicegate.policy.key_schema import ACCOUNT_SECRETS
from sluicegate.policy.secrets import ENV, is_reference
from sluicegate.providers.known import known_provider, known_providers
from sluicegate.yaml_document import Document, Location, Problem, dotted

EDIT_THE_FILE = "edit the policy file on the gateway's machine instead"


GOOGLE_VARIABLE, AWS_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS", "AWS_ACCESS_KEY_ID"
"""Stand for the credentials of the gateway's machine at Google and AWS, wherever they come from."""


class Use(NamedTuple):
    """One secret as it is written in a policy: what it is for and where it is sent."""

    purpose: tuple[str, ...]
    secret: str
    target: str
    """A base URL or webhook; empty for what is sent nowhere."""


def forbidden_uses(
    before: Sequence[Any], after: Sequence[Document], created: Collection[str] = (), env: Mapping[str, str] | None = None
) -> list[Problem]:
    """Return what is wrong with the secrets of changed files, compared with the values of policies in force before.

    ``created`` are references to files that the gateway itself has made for this change; ``env`` is its environment.
    """
    allowed = {use for value in before for _, use in _uses(value)}
    # The variable that everybody keeps a provider's key in. While it is set, it counts as in force for that provider.
    own = {name: known.variable for name, known in known_providers().items() if known.variable and (env or {}).get(known.variable)}
    places = {name: {_target(name, _of(_of(value, "providers"), name)) for value in before} for name in own}
    allowed |= {Use(("providers", name, "keys"), f"{ENV}{own[name]}", target) for name in own for target in places[name]}
    known = {use.secret for use in allowed}
    targets = {(use.purpose[:2], use.target) for use in allowed}
    problems = []
    for doc in after:
        for name, provider in _items(_of(doc.value, "providers")):
            # Else the address could be changed first, and the variable named after it.
            if name in own and (target := _target(name, provider)) not in {*places[name], known_providers()[name].base_url}:
                message = f"{own[name]} is set here and could be sent to {target} next: {EDIT_THE_FILE}"
                problems.append(_problem(doc, ("providers", name, "base_url"), message))
        for location, use in _uses(doc.value):
            if use in allowed or use.secret in created:
                continue
            if use.secret in known and use.target:
                owner = (*location[:2], "base_url") if location[0] == "providers" else location
                is_moved = (use.purpose[:2], use.target) not in targets and owner in doc.lines
                message = f"a secret that is in use would be sent to {use.target}, where it does not go now: {EDIT_THE_FILE}"
                problems.append(_problem(doc, owner if is_moved else location, message + _OR_NEW))
            elif location[-1] in ACCOUNT_SECRETS:
                message = f"the account of the gateway's machine would vouch for calls to {use.target or 'a new place'}: "
                problems.append(_problem(doc, location, f"{message}{EDIT_THE_FILE}, or send keys along with it"))
            elif (
                (variable := _own_variable(location)) is not None
                and use.secret == f"{ENV}{variable}"
                and not (env or {}).get(variable)
            ):
                message = f"{variable} is not set in the gateway's environment: set it there and start the gateway again, "
                problems.append(_problem(doc, location, f"{message}or send the key itself"))
            elif is_reference(use.secret):
                message = f"'{use.secret[:80]}' is not in force here, and over HTTP no reference to a variable or file can be added"
                problems.append(_problem(doc, location, f"{message}: {EDIT_THE_FILE}"))
    return problems


_OR_NEW = ", or send new secrets along with it"


def _own_variable(location: Location) -> str | None:
    """Return the variable that everybody keeps a provider's key in, at the place of such a key."""
    known = (
        known_provider(str(location[1]))
        if location[0] == "providers" and location[2] == "keys" and location[-1] == "value"
        else None
    )
    return known.variable if known is not None else None


def _problem(doc: Document, location: Location, message: str) -> Problem:
    return Problem(doc.file, doc.line(location), dotted(location), message)


def _uses(policy: Any) -> Iterator[tuple[Location, Use]]:
    """Yield every secret with its location; what has the wrong shape is left to the schema."""
    for name, provider in _items(_of(policy, "providers")):
        target = _target(str(name), provider)
        place: Location = ("providers", name)
        yield from _use((*place, "admin_key"), _of(provider, "admin_key"), ("providers", str(name), "admin_key"), target)
        for i, key in _items(_of(provider, "keys")):
            purpose = ("providers", str(name), "keys")
            yield from _use((*place, "keys", i, "value"), _of(key, "value"), purpose, target)
            for config, secrets in ACCOUNT_SECRETS.items():
                for field, written in _items(_of(key, config)):
                    if field in secrets:
                        yield from _use((*place, "keys", i, config, field), written, purpose, target)
                    elif isinstance(written, str) and is_reference(written.strip()):
                        # A region or a project: shown in addresses and errors, so no variable that holds a secret may stand there.
                        yield from _use((*place, "keys", i, config, field), written, ("providers", str(name), str(field)), target)
            if (machine := _machine_account(key, target)) is not None:
                # Without credentials of its own it has the machine's, whose tokens anyone could use who gets them.
                config, variable = machine
                yield from _use((*place, "keys", i, config), f"{ENV}{variable}", purpose, target)
    for i, key in _items(_of(policy, "virtual_keys")):
        yield from _use(("virtual_keys", i, "value"), _of(key, "value"), ("virtual_keys",), "")
    yield from _uses_elsewhere(policy)


def _uses_elsewhere(policy: Any) -> Iterator[tuple[Location, Use]]:
    """Yield the secrets that no calls are sent with."""
    oidc = _of(policy, "oidc")
    issuer = str(_of(oidc, "issuer")).strip().rstrip("/")
    yield from _use(("oidc", "client_secret"), _of(oidc, "client_secret"), ("oidc", "client_secret"), issuer)
    otlp = _of(_of(policy, "server"), "otlp")
    for name, value in _items(_of(otlp, "headers")):
        receiver = str(_of(otlp, "endpoint") or "the receiver of the environment").strip().rstrip("/")
        yield from _use(("server", "otlp", "headers", name), value, ("otlp", "headers"), receiver)
    forward = _of(_of(policy, "client_telemetry"), "forward")
    for name, value in _items(_of(forward, "headers")):
        collector = str(_of(forward, "endpoint")).strip().rstrip("/")
        place: Location = ("client_telemetry", "forward", "headers", name)
        yield from _use(place, value, ("client_telemetry", "headers"), collector)
    for i, webhook in _items(_of(_of(policy, "alerts"), "webhooks")):
        url = _of(webhook, "url")
        yield from _use(("alerts", "webhooks", i, "url"), url, ("webhooks", "url"), "")
        yield from _use(("alerts", "webhooks", i, "secret"), _of(webhook, "secret"), ("webhooks", "secret"), str(url).strip())


def _machine_account(key: Any, target: str) -> tuple[str, str] | None:
    """Return the field that gives a key the machine's own account, and what stands for that; None for other keys."""
    if _of(key, "value"):
        return None
    if isinstance(account := _of(key, "vertex_key_config"), dict):
        return None if account.get("auth_credentials") else ("vertex_key_config", GOOGLE_VARIABLE)
    account = _of(key, "bedrock_key_config")
    # Without a base URL it goes to AWS itself, in whichever region.
    is_machine = isinstance(account, dict) and not account.get("access_key") and bool(target)
    return ("bedrock_key_config", AWS_VARIABLE) if is_machine else None


def _target(name: str, provider: Any) -> str:
    """Return where a provider's calls are sent."""
    known = known_provider(name)
    return str(_of(provider, "base_url") or (known.base_url if known else None) or "").strip().rstrip("/")


def _use(location: Location, secret: Any, purpose: tuple[str, ...], target: str) -> Iterator[tuple[Location, Use]]:
    if isinstance(secret, str) and secret.strip():
        yield location, Use(purpose, secret.strip(), target)


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)
