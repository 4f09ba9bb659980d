"""Read a call of Bedrock's: the model and the method from the path, the rest from the body, which is one of Messages."""

from __future__ import annotations

import re
from urllib.parse import unquote

from sluicegate.providers.anthropic import request as messages
from sluicegate.providers.requests.model_name import MODEL_NAME_RULE, is_model_name
from sluicegate.values import RequestFacts

STREAM = "invoke-with-response-stream"

PATH = re.compile(r"/model/([^/?]+)/(invoke|invoke-with-response-stream)(?:\?|$)")


def read_request(body: bytes, path: str) -> RequestFacts | str:
    """Read the facts of a call by its path and body."""
    found = PATH.search(path)
    if found is None:
        return "the path of a model call is /model/ID/invoke or /model/ID/invoke-with-response-stream"
    model = unquote(found[1])
    if not is_model_name(model):
        return f"the path's model cannot be judged: {MODEL_NAME_RULE}"
    return messages.read_request(body, messages.Named(model, found[2] == STREAM))
