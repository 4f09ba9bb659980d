"""Read a call of Bedrock's: the model and the method from the path, the rest from the body, which is one of Messages."""

from __future__ import annotations

import re
from urllib.parse import unquote

from sluicegate.providers.anthropic import request as messages
from sluicegate.providers.requests.model_name import MODEL_NAME_RULE, is_model_name
from sluicegate.values import RequestFacts

STREAM = "invoke-with-response-stream"

PATH = re.compile(r"/model/([^/?]+)/(invoke|invoke-with-response-stream)(?:\?|$)")


def invoked_in(path: str) -> messages.Named | None:
    """Return the model that a path of Bedrock's names, and whether it asks for a stream; None for another path."""
    found = PATH.search(path)
    return None if found is None else messages.Named(unquote(found[1]), found[2] == STREAM)


def read_request(body: bytes, path: str) -> RequestFacts | str:
    """Read the facts of a call by its path and body."""
    named = invoked_in(path)
    if named is None:
        return "the path of a model call is /model/ID/invoke or /model/ID/invoke-with-response-stream"
    if not is_model_name(named.model):
        return f"the path's model cannot be judged: {MODEL_NAME_RULE}"
    return messages.read_request(body, named)
