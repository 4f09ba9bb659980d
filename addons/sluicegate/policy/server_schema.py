"""The shape of the policy's sections about the gateway itself: hosts beyond the providers, its port, its alerts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from sluicegate.addresses import is_loopback
from sluicegate.policy.fields import (
    BodyObjects,
    Duration,
    FilePath,
    Host,
    HostPattern,
    Id,
    Model,
    Network,
    Percent,
    Text,
    UpstreamProxy,
    WebhookUrl,
)
from sluicegate.policy.otlp_schema import Otlp
from sluicegate.policy.store_address import PasswordReference, StoreUrl


class Egress(Model):
    """Hosts that belong to no provider."""

    default: Literal["tunnel", "deny"] = Field(
        "tunnel", description="Hosts that nothing below names. tunnel: passed unread, recorded by name. deny: refused."
    )
    allow: tuple[HostPattern, ...] = Field((), description="Globs that are always allowed, private addresses included.")
    deny: tuple[HostPattern, ...] = Field((), description="Globs that are always refused.")
    model_hosts: Literal["deny", "tunnel"] = Field(
        "deny",
        description="Known model APIs that no provider here governs. deny: refused, unless a host's whole name is under allow. "
        "tunnel: passed unread and unmetered, as other hosts are.",
    )
    encrypted_names: Literal["deny", "tunnel"] = Field(
        "deny",
        description="Tunnels whose ClientHello hides the server's name (ECH), as those of browsers do, to hosts that are not "
        "under allow. deny: refused, because they could be for a provider.",
    )
    require_key: StrictBool = Field(
        False,
        description="Ask every connection for a virtual key, those from this machine too. Clients such as git send theirs only "
        "when asked, so without it their connections from this machine are recorded without a name.",
    )


class Server(Model):
    """The gateway's own port."""

    hosts: tuple[Host, ...] = Field((), description="Host names under which the administration may be addressed.")
    contact: Text | None = Field(
        None,
        description="Whom users may ask about their budgets: an address, a channel, a page. Claude Code shows it with a refusal "
        "for a used-up budget.",
    )
    allow_plaintext: StrictBool = Field(False, description="Listen beyond loopback without TLS.")
    allow_id_as_value: StrictBool = Field(False, description="Accept demo keys when listening beyond loopback.")
    trusted_proxies: tuple[Network, ...] = Field(
        (),
        description="Networks (CIDR) of the proxies in front. From them alone PROXY protocol and X-Forwarded-For are read: "
        "each must write one of the two on every connection.",
    )
    trust_loopback: StrictBool | None = Field(
        None,
        description="Ask no credential of connections from the gateway's own machine to other hosts, and accept demo keys there. "
        "By default true, and false once trusted_proxies is set.",
    )
    upstream_proxy: UpstreamProxy | None = Field(
        None,
        description="The proxy through which providers, webhooks and other hosts are reached, as http://proxy:3128; env.NAME or "
        "file:PATH where its URL has credentials; direct for none. By default the environment's HTTPS_PROXY; its NO_PROXY holds "
        "for both.",
    )
    ca_bundle: FilePath | None = Field(
        None,
        description="A PEM file of certificate authorities that are trusted on the way out beside the usual ones, by providers' "
        "calls, webhooks and reports of bills: an absolute path. Read again when it changes.",
    )
    store: StoreUrl | None = Field(
        None,
        description="The PostgreSQL database that several gateways share, as postgresql://user@host/database?sslmode=verify-full; "
        "env.NAME or file:PATH where its URL has the password. By default the environment's SLUICEGATE_STORE; without either the "
        "gateway keeps everything in its own state folder. Read at the start; needs the extra postgres.",
    )
    store_password: PasswordReference | None = Field(
        None, repr=False, description="The password of the store's user: env.NAME or file:PATH."
    )
    store_down: Literal["refuse", "spend_lease"] = Field(
        "spend_lease",
        description="While the store cannot be reached. spend_lease: calls go on as far as what the gateway has leased, and "
        "for 15 minutes at most where the policy is in the store. refuse: calls are refused after five "
        "seconds. Beyond its leases a gateway never lets a call pass.",
    )
    otlp: Otlp | None = Field(None, description="Exports metrics and a span for each call by OTLP; needs the extra otel.")
    public_metrics: StrictBool = Field(
        False, description="Serve /metrics without a token too, then without the figures of single keys and users."
    )
    max_objects: BodyObjects = Field(
        50_000, description="Most JSON objects in one request: messages, content blocks, tools and what they hold."
    )

    def trusts(self, address: str) -> bool:
        """Return whether an address is of the gateway's own machine, and that is enough."""
        trusts_loopback = not self.trusted_proxies if self.trust_loopback is None else self.trust_loopback
        return trusts_loopback and is_loopback(address)


class Management(Model):
    """Where the policy is kept, and who changes it."""

    source: Literal["file", "store"] = Field(
        "file",
        description="store: it is kept in the database that server.store names, and this file says only how to reach that; one "
        "edit anywhere is in force on every gateway. In a policy that is in the store it changes nothing. Read at the start.",
    )

    managed_by: Literal["api", "git"] = Field(
        "api",
        description="api: the REST API and the dashboard may change it, as editors of its files may. git: they only show it; it is "
        "changed in its repository, and comes with the next deployment.",
    )


class Retention(Model):
    """How long things stay; what a call cost stays counted in any case."""

    calls: Duration = Field(
        "never",
        description="How long records stay in the database: calls, connections, refusals of unknown callers. Sums by day stay, "
        "and so does the newest call.",
    )
    content: Duration | None = Field(None, description="How long kept bodies stay; absent: content_retention, never: for good.")
    audit: Duration = Field("never", description="How long rotated files of audit.jsonl stay; the newest always does.")
    rotate_every: Duration = Field("never", description="Begin a new audit.jsonl when the period is over, by UTC: 1d at midnight.")
    rotate_megabytes: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = Field(
        None, description="Begin a new audit.jsonl when it is this long; absent: however long it is."
    )


class Webhook(Model):
    """A receiver of alerts."""

    name: Id = Field(description="Its name in logs and on the dashboard.")
    url: WebhookUrl = Field(
        description="env.NAME, file:PATH, or the URL itself (warned about: anyone who knows it can post to it).", repr=False
    )
    format: Literal["json", "slack"] = Field("json", description="json: every field. slack: a text, as Slack accepts it.")
    secret: str | None = Field(
        None, description="env.NAME, file:PATH or the secret itself; signs what is sent.", min_length=1, repr=False
    )
    scopes: tuple[Annotated[str, Field(min_length=1, max_length=300)], ...] = Field(
        ("*",), description="Scopes whose alerts it receives: globs on kind/id, such as team/* or virtual_key/vk-dev-alice."
    )


class Alerts(Model):
    """When alerts about budgets are sent, and to whom."""

    thresholds: tuple[Percent, ...] = Field((50, 80, 95, 100), description="Percent of a budget at which an alert is sent.")
    webhooks: tuple[Webhook, ...] = Field((), description="Who receives them; without any, nobody does.")
