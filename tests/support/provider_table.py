"""The table of known providers as ``docs/providers.md`` has it, made of the data."""

from __future__ import annotations

from sluicegate.providers import PROTOCOLS
from sluicegate.providers.known import KnownProvider, known_providers


def table() -> str:
    """Return the table in Markdown."""
    head = "| name | provider | protocol | base_url | key | variable | priced by | to know |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    return "\n".join([head, *map(_row, known_providers().values())])


def _row(known: KnownProvider) -> str:
    auth = known.auth or PROTOCOLS[known.protocol].auth
    if known.unsupported:
        return f"| `{known.name}` | {known.title} | | | | | | not yet: {known.unsupported} |"
    prices = "nothing: your own machines" if known.free else f"`{known.prices}`" if known.prices else "model name"
    if known.usage.cost is not None:
        prices = f"the answer; before it {prices}"
    protocol = f"`{known.protocol}`" + (f" ({', '.join(known.apis)})" if known.protocol == "openai" else "")
    notes = [known.note, *known.unbounded.values()]
    signs = known.protocol == "bedrock"
    base_url = f"`{known.base_url}`" if known.base_url else "its region's" if signs else "yours"
    key = "none" if known.keyless else f"`{auth}`" + (", or signed" if signs else "")
    return (
        f"| `{known.name}` | {known.title} | {protocol} | {base_url} "
        f"| {key} | {f'`{known.variable}`' if known.variable else ''} | {prices} "
        f"| {'. '.join(note for note in notes if note)} |"
    )
