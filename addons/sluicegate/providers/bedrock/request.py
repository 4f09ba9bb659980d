"""Read a call of Bedrock's: the model and the method from the path, the rest from the body, which is one of Messages."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote

from sluicegate.providers.anthropic import request as messages
from sluicegate.providers.requests.body import NO_MODEL, RequestBody
from sluicegate.providers.requests.model_name import MODEL_NAME_RULE, is_model_name
from sluicegate.values import RequestFacts

NO_COUNT = "tokens are counted of input.invokeModel.body, the base64 of a call's body; other input is not supported"

STREAM = "invoke-with-response-stream"

COUNT = "/count-tokens"

_COUNTED = re.compile(r"/model/([^/?]+)/count-tokens(?:\?|$)")

PATH = re.compile(r"/model/([^/?]+)/(invoke|invoke-with-response-stream)(?:\?|$)")


def invoked_in(path: str) -> messages.Named | None:
    """Return the model that a path of Bedrock's names, and whether it asks for a stream; None for another path."""
    found = PATH.search(path)
    return None if found is None else messages.Named(unquote(found[1]), found[2] == STREAM)


def counted_in(body: bytes) -> bytes | str:
    """Return the body of the call whose tokens are to be counted; a sentence that says why there is none."""
    request = RequestBody(body)
    written = request.child("input").child("invokeModel").value("body", limit=len(body))
    if request.problem and request.problem != NO_MODEL:
        return request.problem
    try:
        return base64.b64decode(written, validate=True) if isinstance(written, str) else NO_COUNT
    except binascii.Error:
        return NO_COUNT


def read_request(body: bytes, path: str) -> RequestFacts | str:
    """Read the facts of a call by its path and body."""
    named = invoked_in(path)
    if named is None and (counted := _COUNTED.search(path)) is not None:
        named, found = messages.Named(unquote(counted[1]), False), counted_in(body)
        if isinstance(found, str):
            return found
        body = found
    if named is None:
        return "the path of a model call is /model/ID/invoke or /model/ID/invoke-with-response-stream"
    if not is_model_name(named.model):
        return f"the path's model cannot be judged: {MODEL_NAME_RULE}"
    return messages.read_request(body, named)
