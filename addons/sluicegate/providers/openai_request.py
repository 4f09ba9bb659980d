"""Read the body of a chat or responses call: what governance needs to know before it leaves."""

from __future__ import annotations

from sluicegate.providers.request_body import RequestBody, find_base64, has_escaped_letters
from sluicegate.values import RequestFacts


def read_request(body: bytes) -> RequestFacts | str:
    """Read the facts of a chat or responses body."""
    request = RequestBody(body)
    model, stream = request.model(), request.flag("stream")
    caps = [request.count(n) for n in ("max_output_tokens", "max_completion_tokens", "max_tokens")]
    if (request.count("n") or 1) > 1:
        return "'n' above 1 is not supported: every choice would be billed"
    tool_types = request.tool_types()
    if request.problem or model is None:
        return request.problem or "no model"
    images, payload_bytes = find_base64(body)
    has_server_tool = any(kind not in ("function", "custom") for kind in tool_types)
    return RequestFacts(
        model=model,
        stream=stream,
        max_tokens=next((c for c in caps if c is not None), None),
        body_bytes=len(body),
        text_bytes=len(body) - payload_bytes,
        images=images,
        # An earlier answer named by id brings its whole conversation along.
        is_text_only=not (
            images
            or has_server_tool
            or b'"previous_response_id"' in body
            or b"image_url" in body
            or b'"file_id"' in body
            or has_escaped_letters(body)
        ),
    )
