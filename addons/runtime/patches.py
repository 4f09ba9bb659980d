"""Patches: the only place that assigns to an attribute of mitmproxy, or of asyncio below it, in one table.

Each row knows what it replaces. If mitmproxy has changed there, a row that guards security refuses to start; one that
only saves time is left out with a warning, and the gateway works without it.
"""

from __future__ import annotations

import inspect
import logging
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mitmproxy.addonmanager import Loader
from mitmproxy.version import VERSION

from flow import Addon
from runtime import fast_paths
from runtime.dispatch import cached_dispatch
from runtime.error_responses import error_bytes
from runtime.lifecycle.worker import listen_on_handed_sockets
from runtime.network.upstream_proxy import dialling_through_proxies
from runtime.options import exit_with_error
from runtime.resources import polled_events, size_limits
from runtime.resources.descriptors import accepting_gently
from runtime.streams import fast_streams, http2_frames, joined_pieces, straight_answers
from runtime.trailers import without_trailers
from sluicegate.workers.worker import this_worker

logger = logging.getLogger("sluicegate")


@dataclass(frozen=True)
class Patch:
    """One row: what is replaced, by what, and what happens where it does not fit."""

    name: str
    owner: str
    """The module, class or object whose attributes are replaced, as ``package.module:Class``."""
    known: Mapping[str, tuple[str, ...] | None]
    """The attributes it must have, with the parameters of each; None for an attribute that is not called."""
    replacements: Callable[[Any], Mapping[str, Any]]
    """Returns the new attributes, given the owner as mitmproxy made it."""
    on_mismatch: Literal["refuse", "degrade"]
    without_it: str
    """What happens without it; the last part of the log line about a mismatch."""
    is_early: bool = False
    """Put in place before mitmproxy listens, not once it does."""
    is_needed: Callable[[], bool] = lambda: True

    def mismatch(self) -> str | None:
        """Return which part of its target is missing or has changed; None if it fits."""
        try:
            owner = pkgutil.resolve_name(self.owner)
        except (ImportError, AttributeError):
            return self.owner
        for name, parameters in self.known.items():
            try:
                attribute = inspect.getattr_static(owner, name)
                fits = parameters is None or tuple(inspect.signature(getattr(owner, name)).parameters) == parameters
            except (AttributeError, TypeError, ValueError):
                attribute, fits = None, False
            if attribute is None or not fits:
                return f"{self.owner}.{name}"
        return None

    def apply(self) -> None:
        """Put the replacements in place. Raises AttributeError where one needs what mitmproxy no longer has."""
        owner = pkgutil.resolve_name(self.owner)
        for name, new in self.replacements(owner).items():
            setattr(owner, name, new)


PATCHES = (
    Patch(
        name="listen",
        owner="mitmproxy.proxy.mode_servers:AsyncioServerInstance",
        known={"listen": ("self", "host", "port"), "handle_stream": ("self", "reader", "writer")},
        replacements=lambda _: {"listen": listen_on_handed_sockets},
        on_mismatch="refuse",
        without_it="workers could not share a port",
        is_early=True,
        is_needed=lambda: this_worker() is not None,
    ),
    Patch(
        # HTTP/2 needs no patch: mitmproxy's reader raises on trailers of HTTP/1 alone, on either side of a call.
        name="trailers",
        owner="mitmproxy.proxy.layers.http._http1",
        known={"make_body_reader": ("expected_size",)},
        replacements=lambda owner: {"make_body_reader": without_trailers(owner.make_body_reader)},
        on_mismatch="refuse",
        without_it="trailers would end connections, and a credential among them would be printed",
    ),
    Patch(
        name="answer_size",
        owner="mitmproxy.proxy.layers.http._http1:Http1Client",
        known={"read_headers": ("self", "event"), "read_body": ("self", "event"), "handle_event": ("self", "event")},
        # What is read together is taken out first, so that the limit holds for what frames it.
        replacements=lambda owner: straight_answers.reading(
            joined_pieces.joining(size_limits.limited_answer(owner), fast_streams.is_on, fast_streams.after_read)
        ),
        on_mismatch="refuse",
        without_it="an upstream whose headers never end would fill the memory",
    ),
    Patch(
        name="http2_windows",
        owner="mitmproxy.proxy.layers.http._http_h2:BufferedH2Connection",
        known={"send_data": ("self", "stream_id", "data", "end_stream", "pad_length")},
        replacements=lambda owner: {"send_data": http2_frames.waiting_for_windows(owner.send_data)},
        on_mismatch="degrade",
        without_it="an answer loses a part where its client takes back what it let us send over HTTP/2",
    ),
    Patch(
        # The other errors are written by our own layers; this one comes before there is a request.
        name="error_of_unreadable_head",
        owner="mitmproxy.proxy.layers.http._http1",
        known={"make_error_response": ("status_code", "message")},
        replacements=lambda owner: {"make_error_response": error_bytes},
        on_mismatch="degrade",
        without_it="a request that cannot be parsed is answered with an HTML page",
    ),
    Patch(
        name="dial",
        owner="mitmproxy.proxy.server",
        known={"asyncio": None, "ConnectionHandler": None},
        replacements=dialling_through_proxies,
        on_mismatch="refuse",
        without_it="server.upstream_proxy and HTTPS_PROXY would not hold",
    ),
    Patch(
        name="dispatch",
        owner="mitmproxy.ctx:master.addons",
        known={
            "chain": None,
            "trigger": ("event",),
            "trigger_event": ("event",),
            "handle_lifecycle": ("event",),
            "register": ("addon",),
            "remove": ("addon",),
            "clear": (),
        },
        replacements=cached_dispatch,
        on_mismatch="degrade",
        without_it="hooks are dispatched mitmproxy's own, slower way, and the time of our addons is not measured",
    ),
    Patch(
        name="accept",
        owner="asyncio.selector_events:BaseSelectorEventLoop",
        known={
            "_accept_connection": (
                "self",
                "protocol_factory",
                "sock",
                "sslcontext",
                "server",
                "backlog",
                "ssl_handshake_timeout",
                "ssl_shutdown_timeout",
            ),
            "_start_serving": None,
            "_remove_reader": None,
            "_add_reader": None,
        },
        replacements=lambda owner: {"_accept_connection": accepting_gently(owner._accept_connection)},
        on_mismatch="degrade",
        without_it="out of descriptors, asyncio logs a line for each connection that it cannot accept",
    ),
    Patch(
        name="poll",
        owner="mitmproxy.ctx:master.event_loop._selector",
        known={"select": ("timeout",), "_selector": None, "_fd_to_key": None},
        replacements=polled_events.noting,
        on_mismatch="degrade",
        without_it="what may be read is noted in more steps, asyncio's own",
        is_needed=polled_events.is_epoll,
    ),
    Patch(
        name="header_lookup",
        owner="mitmproxy.http:Headers",
        known={"get_all": ("self", "name"), "get": ("self", "key", "default"), "__contains__": ("self", "key")},
        replacements=lambda owner: {
            "get_all": fast_paths.get_all,
            "get": fast_paths.get,
            "__contains__": fast_paths.contains,
        },
        on_mismatch="degrade",
        without_it="headers are looked up more slowly",
    ),
    Patch(
        name="headers_made",
        owner="mitmproxy.http:Headers",
        known={"__init__": ("self", "fields", "headers"), "__bytes__": ("self",)},
        replacements=lambda owner: {
            "__init__": fast_paths.headers_maker(owner.__init__),
            "__bytes__": fast_paths.headers_as_bytes,
        },
        on_mismatch="degrade",
        without_it="headers are made and written more slowly",
    ),
    Patch(
        name="content_length",
        owner="mitmproxy.net.http.validate",
        known={"parse_content_length": ("value",)},
        replacements=lambda owner: {"parse_content_length": fast_paths.cached(owner.parse_content_length, max_length=20)},
        on_mismatch="degrade",
        without_it="lengths are parsed more slowly",
    ),
    Patch(
        name="authority",
        owner="mitmproxy.net.http.url",
        known={"parse_authority": ("authority", "check")},
        replacements=lambda owner: {"parse_authority": fast_paths.cached(owner.parse_authority, max_length=256)},
        on_mismatch="degrade",
        without_it="host names are parsed more slowly",
    ),
    Patch(
        name="option_value",
        owner="mitmproxy.optmanager:_Option",
        known={"current": ("self",), "value": None, "_default": None},
        replacements=lambda owner: {"current": fast_paths.option_reader()},
        on_mismatch="degrade",
        without_it="options are read more slowly",
    ),
    Patch(
        name="crl_path",
        owner="mitmproxy.addons.tlsconfig:TlsConfig",
        known={"crl_path": ("self",)},
        replacements=lambda owner: {"crl_path": fast_paths.path_of_crl(owner.crl_path)},
        on_mismatch="degrade",
        without_it="each request is compared more slowly with the path of the CA's revocation list",
    ),
    Patch(
        name="flow_id",
        owner="mitmproxy.flow",
        known={"uuid": None},
        replacements=lambda owner: {"uuid": fast_paths.FlowIds(owner.uuid)},
        on_mismatch="degrade",
        without_it="flows are made more slowly",
    ),
    Patch(
        name="hook_class_check",
        owner="mitmproxy.proxy.commands:StartHook",
        known={"__new__": ("cls", "args", "kwargs")},
        replacements=lambda _: {"__new__": fast_paths.new_without_check},
        on_mismatch="degrade",
        without_it="hooks are made more slowly",
    ),
    Patch(
        name="completion_class_check",
        owner="mitmproxy.proxy.events:CommandCompleted",
        known={"__new__": ("cls", "args", "kwargs")},
        replacements=lambda _: {"__new__": fast_paths.new_without_check},
        on_mismatch="degrade",
        without_it="what ends a hook or another command is made more slowly",
    ),
    Patch(
        name="transfer_encoding",
        owner="mitmproxy.net.http.validate",
        known={"parse_transfer_encoding": ("value",)},
        replacements=lambda owner: {"parse_transfer_encoding": fast_paths.cached(owner.parse_transfer_encoding, max_length=20)},
        on_mismatch="degrade",
        without_it="how bodies are framed is parsed more slowly",
    ),
    Patch(
        name="message_type_check",
        owner="mitmproxy.http:MessageData",
        known={"__post_init__": ("self",)},
        replacements=lambda owner: {"__post_init__": fast_paths.skip_type_check},
        on_mismatch="degrade",
        without_it="messages are made more slowly",
    ),
)

applied: set[str] = set()
"""Names of the rows in place. Module-level, so that a reload of the chain applies none twice."""


def put_in_place(patch: Patch) -> None:
    """Apply a row once; if it does not fit, end the process or warn, as the row says."""
    if patch.name in applied:
        return
    what = patch.mismatch()
    if what is None:
        try:
            patch.apply()
            applied.add(patch.name)
            return
        except AttributeError as e:
            what = str(e)
    line = f"patch {patch.name} does not fit mitmproxy {VERSION} ({what} is missing or has changed): {patch.without_it}"
    if patch.on_mismatch == "refuse":
        exit_with_error(line)
    logger.warning("%s", line)


class Patches(Addon):
    """Applies the table once the proxy is up, before it has served a client."""

    def load(self, loader: Loader) -> None:
        """Apply what is needed before mitmproxy listens."""
        super().load(loader)
        self.apply(early=True)

    def running(self) -> None:
        """Apply every other row."""
        super().running()
        self.apply(early=False)

    def apply(self, *, early: bool) -> None:
        """Apply the rows of one kind."""
        for patch in PATCHES:
            if patch.is_early == early and patch.is_needed():
                put_in_place(patch)


addons = [Patches()]
