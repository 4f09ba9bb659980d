"""The provider's key is in a request's headers from the last check until its answer begins, whatever others do to them meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.test import tflow

from flow import call_begun
from keys import LENGTH_HEADERS, PROVIDER_KEY_HEADERS, Keys

KEY = (b"x-api-key", b"provider's")
NAMES = st.sampled_from(
    [b"X-Api-Key", b"Authorization", b"host", b"content-length", b"Transfer-Encoding", b"anthropic-version", b"x-amz-date"]
)
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=3)), max_size=5).map(tuple)
CREDENTIALS = st.lists(st.sampled_from([("x-api-key", "provider's"), ("x-goog-user-project", "billed"), ("X-Amz-Date", "now")]))


def bare(fields: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(field for field in fields if field[0].lower() not in PROVIDER_KEY_HEADERS)


@given(FIELDS, CREDENTIALS, st.sampled_from([b"", b"body"]), st.sampled_from(["nothing", "adds a key", "is replaced"]))
def test_the_key_is_the_only_credential_and_is_gone_afterwards(fields, credentials, body, meanwhile):
    flow, call, keys = tflow.tflow(), SimpleNamespace(cleared=False), Keys()
    call_begun(flow, call)  # type: ignore[arg-type]
    headers: Any = flow.request.headers
    headers.fields, flow.request.raw_content = fields, body
    keys.clear(flow, call, credentials)  # type: ignore[arg-type]
    kept, has_length = bare(fields), any(name.lower() in LENGTH_HEADERS for name, _ in fields)
    kept += () if has_length or not body else ((b"content-length", b"%d" % len(body)),)
    added = tuple((name.encode(), value.encode()) for name, value in credentials)
    assert call.cleared
    assert headers.fields == kept + added
    if meanwhile == "adds a key":
        headers.fields = (*headers.fields, KEY)
    elif meanwhile == "is replaced":
        flow.request = tflow.tflow().request
        flow.request.headers.fields = (KEY, (b"a", b"b"))
    keys.remove_key(flow)
    assert flow.request.headers.fields == (((b"a", b"b"),) if meanwhile == "is replaced" else kept + bare(added))
    flow.request.headers.fields = (*flow.request.headers.fields, KEY)
    keys.remove_key(flow)
    assert KEY not in flow.request.headers.fields
    assert KEY not in getattr(flow, "sluicegate_sent")[1]  # noqa: B009
    assert getattr(flow, "sluicegate_sent")[0] is None  # noqa: B009
