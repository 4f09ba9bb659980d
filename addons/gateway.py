"""The gateway: the chain of addons, in order, and nothing else.

    mitmdump -s addons/gateway.py

mitmproxy runs request and response hooks in the same list order, so one order serves both directions.
"""

from access import Access
from admin import Admin
from audit import Audit
from budget import Budget
from cache import Cache
from content import Content
from egress import Egress
from identity import Identity
from keys import Keys
from live import Live
from meter import Meter
from promptcache import PromptCache
from ratelimit import RateLimit
from relay import Relay
from route import Route
from runtime.console.console_lines import ConsoleLines
from runtime.console.log_redaction import LogRedaction
from runtime.console.repeated_lines import CountedLog
from runtime.failsafe import Failsafe
from runtime.layer_choice import Layers
from runtime.lifecycle.shutdown import Shutdown
from runtime.lifecycle.worker import WorkerPart
from runtime.network.authority import Authority
from runtime.network.port import Port
from runtime.network.tunnels import Tunnels
from runtime.network.upstream_trust import UpstreamTrust
from runtime.options import Options
from runtime.orphans import Orphans
from runtime.patches import Patches
from runtime.resources.gc_tuning import GcTuning
from runtime.resources.idle_connections import IdleConnections
from runtime.resources.release_memory import ReleaseMemory
from runtime.streams.fast_streams import FastStreams

RUNTIME = [
    Options(Layers(), Failsafe()),  # refuses unsafe options; puts those two behind the chain, where a reload cannot remove them
    ConsoleLines(),  # what is printed, and how; before anything is
    LogRedaction(),  # before anything can be logged
    CountedLog(),  # a warning that recurs is counted; early, so that it holds for all others
    Authority(),  # the CA of the state folder, before mitmproxy would make one elsewhere
    Port(),  # the operator's certificate, and no plaintext from other machines; before anything is read from a client
    Patches(),  # replaces parts of mitmproxy or refuses to start; before anything is served
    FastStreams(),  # the short way of streamed answers, where it can be taken
    GcTuning(),  # keeps garbage collection from stalling the event loop
    ReleaseMemory(),  # frees upstream connections when they end
    UpstreamTrust(),  # whom providers are verified by, before one is dialled
    Tunnels(),  # what is spoken inside a CONNECT, before mitmproxy chooses
    Shutdown(),  # on SIGTERM, lets calls in flight end and starts no new ones
    WorkerPart(),  # of several on one port: may be replaced by another without a failed call
    IdleConnections(),  # ends silent clients and stalled bodies; after the patches, whose way of accepting it puts in place
    Orphans(),  # settles calls that mitmproxy has lost
]
GOVERNANCE = [
    Admin(),  # first: a request addressed to the gateway itself must never reach identity
    Identity(),  # who is calling; everything below depends on it
    Egress(),  # hosts that belong to no provider: tunnelled or refused, by who asks
    Meter(),  # before ratelimit and budget: on the way back, usage must be final when they settle
    Route(),  # which provider and model answer, before anything is judged by them
    Access(),  # providers and models: a check that costs nothing comes before one that takes a slot
    RateLimit(),  # a slot is cheap to give back, so it is taken before money is reserved
    Cache(),  # a kept answer needs every check that says no, and neither money nor a key
    Budget(),  # the last check, and the one that puts the call on disk
    Relay(),  # calls that may need another attempt or another API: they leave by a server of our own
    Keys(),  # after every check, so that no refused call ever carries a provider key
    Content(),  # after the meter, whose chunks it copies, and after every addon that may refuse
    Audit(),  # sees the outcome of all the others
    PromptCache(),  # after audit, for the record; the rest happens in a thread
    Live(),  # last: it announces what is already on record
]
addons = RUNTIME + GOVERNANCE
