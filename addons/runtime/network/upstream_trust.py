"""Upstream trust: mitmproxy verifies providers by the authorities of ``server.ca_bundle`` too, from the next connection on."""

from __future__ import annotations

import logging
from pathlib import Path

from mitmproxy import ctx
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from flow import Addon, services
from runtime.options import exit_with_error

logger = logging.getLogger("sluicegate")


class UpstreamTrust(Addon):
    """Sets mitmproxy's own option, before a connection is made that would need it."""

    def __init__(self) -> None:
        self.in_use: Path | None = None
        self.is_named = False
        """The operator has given mitmproxy a file in place of all."""

    def running(self) -> None:
        """Take what the policy names at the start."""
        super().running()
        named = ctx.options.ssl_verify_upstream_trusted_ca
        self.is_named = bool(named) and Path(named).parent != services().state_dir
        if self.is_named and services().trust.bundle is not None:
            exit_with_error("ssl_verify_upstream_trusted_ca trusts one file alone, and server.ca_bundle adds one: give one of them")
        self.follow()

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """Take what has changed since."""
        if services().trust.file is not self.in_use:
            self.follow()

    def follow(self) -> None:
        """Verify by what is trusted now."""
        file = services().trust.file
        if self.is_named and file is not None:
            logger.error(
                "server.ca_bundle does not hold for providers: ssl_verify_upstream_trusted_ca names one file in place of all"
            )
        elif file is not self.in_use:
            ctx.options.update(ssl_verify_upstream_trusted_ca=None if file is None else str(file))
        self.in_use = file


addons = [UpstreamTrust()]
