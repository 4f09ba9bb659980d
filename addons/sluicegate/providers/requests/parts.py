"""What the lists of known parts of request bodies have in common.

A body is read as a type in which every field is listed, and fits it or not: what a list leaves out is never overlooked.
"""

from __future__ import annotations

import msgspec

Json = msgspec.Raw
"""A field whose whole value is text to the model, or nothing at all."""

Words = msgspec.Raw
"""A field that holds a text, left undecoded: a large body has thousands, and copying them takes longer than all the rest.

A value of another type costs no more than its bytes either, since the provider refuses it.
"""

ABSENT = msgspec.Raw()


class Part(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A JSON object in which every field is listed."""
