"""The gateway: the chain, in order, and nothing else.

    mitmdump -s addons/gateway.py

mitmproxy runs request and response hooks in the same list order, so one order serves both directions.
"""

from access import Access
from admin import Admin
from audit import Audit
from bounds import Bounds
from budget import Budget
from content import Content
from dispatch import Dispatch
from drain import Drain
from egress import Egress
from guard import Guard
from identity import Identity
from keys import Keys
from lastgate import LastGate
from live import Live
from meter import Meter
from pace import Pace
from prune import Prune
from ratelimit import RateLimit
from redact import Redact
from shortcuts import Shortcuts
from sweep import Sweep
from trailers import Trailers

addons = [
    Guard(LastGate()),  # refuses unsafe options, and puts the last gate behind the chain, where a reload can't reach it
    Redact(),  # before anything can be printed
    Pace(),  # no stalls by the collector
    Shortcuts(),  # what mitmproxy asks itself most is answered the short way
    Dispatch(),  # hooks reach whoever has something to do, and the time of each addon is counted
    Prune(),  # no memory kept for what is over
    Bounds(),  # no memory for a client that never ends
    Trailers(),  # nothing follows a body that was judged
    Drain(),  # told to stop, finishes what has begun and begins nothing new
    Sweep(),  # ends what mitmproxy has lost, with everybody else's own hooks
    Admin(),  # first to see a request: one addressed to the gateway itself must never meet identity
    Identity(),  # who is calling; nothing below works without it
    Egress(),  # hosts that are no provider's: tunnelled or refused, knowing who asks
    Meter(),  # before ratelimit and budget: on the way back its usage must be final when they settle
    Access(),  # providers and models: a verdict that costs nothing comes before one that takes a slot
    RateLimit(),  # a slot is cheap to give back, so it is taken before money is reserved
    Budget(),  # the last check, and the one that puts the call on disk
    Keys(),  # after every check, so that no refused call ever carries a provider key
    Content(),  # behind the meter, whose pieces it listens to, and behind whoever may refuse
    Audit(),  # sees what all the others made of the call
    Live(),  # last: what it tells is on record
]
