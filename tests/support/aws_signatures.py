"""AWS Signature Version 4, computed anew from a request as it arrived, by the algorithm that AWS documents.

Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "AKIAFAKEFAKEFAKEFAKE", "fake/secret+key/of/the/gateway0000000000", "fake-session-token=="

MAX_SKEW_S = 300
"""How far a signature's date may be from now."""

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<day>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, "
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)


def signature_problem(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    region: str,
    token: str | None = None,
    now: datetime | None = None,
) -> str | None:
    """Return what is wrong with a request's signature; ``headers`` are by lower-case name, ``token`` that of the session."""
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        return "no signature"
    stamp = headers.get("x-amz-date", "")
    if not re.fullmatch(r"\d{8}T\d{6}Z", stamp) or stamp[:8] != found["day"]:
        return f"date {stamp!r}"
    moment = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(((now or datetime.now(UTC)) - moment).total_seconds()) > MAX_SKEW_S:
        return f"expired: {stamp}"
    scope = (found["id"], found["region"], found["service"])
    if scope != (ACCESS_KEY, region, "bedrock"):
        return f"scope {scope}"
    names = found["names"].split(";")
    needed = {"host", "x-amz-date"} | ({"x-amz-security-token"} if token else set())
    if names != sorted(names) or not needed <= set(names):
        return f"signed headers {names}"
    if headers.get("x-amz-security-token") != token:
        return "session token"
    path, _, query = target.partition("?")
    pairs = sorted(tuple(pair.partition("=")[::2]) for pair in query.split("&")) if query else []
    canonical = "\n".join(
        (
            method,
            # Each segment is encoded once more than it is on the wire.
            quote(path, safe="/~-_."),
            "&".join(f"{n}={v}" for n, v in pairs),
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        )
    )
    day = f"{found['day']}/{region}/bedrock/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{day}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + SECRET_KEY.encode()
    for part in day.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    expected = hmac.new(key, text.encode(), "sha256").hexdigest()
    return None if hmac.compare_digest(expected, found["signature"]) else "signature"
