"""A client's call as each target wants it: the same bytes, the same dialect in another form, or a translation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from sluicegate.calls.call import Call
from sluicegate.calls.plan import Target
from sluicegate.policy.loader import load
from sluicegate.sending.outgoing import outgoing
from sluicegate.sending.prepared import ClientRequest

POLICY = (
    "version: 1\nproviders:\n  foundry: {base_url: 'https://r.services.ai.azure.com/anthropic'}\n"
    "  vertex: {keys: [{name: k, value: token, vertex_key_config: {project_id: ours, region: eu}}]}\n"
)
OPUS, FLASH, OLD = "claude-opus-5-5", "gemini-2.5-flash", "claude-opus-4-5"
SAID = [{"role": "user", "content": "hi"}]
MESSAGES = {"max_tokens": 9, "messages": SAID}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
VERSION = {"anthropic_version": "vertex-2023-10-16"}
RAW = f"/v1/publishers/anthropic/models/{OPUS}:rawPredict"
GENERATE = f"/publishers/google/models/{FLASH}:streamGenerateContent?alt=sse"
OURS = "/v1/projects/ours/locations/eu/publishers"


@dataclass(frozen=True)
class Case:
    """A call, its target, and what the target gets."""

    spoken: str
    path: str
    body: dict[str, Any]
    target: str
    sent: str
    sent_body: dict[str, Any] | None = None
    """None where the bytes stay the client's."""
    headers: tuple[tuple[bytes, bytes], ...] = ((b"anthropic-beta", b"effort-2025-11-24,other-2026-01-01"),)
    sent_headers: tuple[tuple[bytes, bytes], ...] | None = None
    is_translated: bool = False
    is_reworded: bool = False


CASES = {
    "vertex to vertex": Case("vertex", RAW, VERSION | MESSAGES, f"vertex/{OPUS}", f"{OURS}/anthropic/models/{OPUS}:rawPredict"),
    "another model of the same maker": Case(
        *("vertex", RAW, VERSION | MESSAGES, f"vertex/{OLD}@20251101", f"{OURS}/anthropic/models/{OLD}@20251101:rawPredict")
    ),
    "gemini at vertex": Case(
        "vertex", f"/v1beta1{GENERATE}", CONTENTS, f"vertex/{FLASH}", f"/v1beta1/projects/ours/locations/eu{GENERATE}"
    ),
    "foundry to foundry": Case(
        "foundry", "/v1/messages?beta=true", {"model": OPUS} | MESSAGES, f"foundry/{OPUS}", "/anthropic/v1/messages?beta=true"
    ),
    "vertex to anthropic": Case(
        *("vertex", RAW, VERSION | MESSAGES, f"anthropic/{OPUS}", "/v1/messages", {"model": OPUS} | MESSAGES),
        sent_headers=((b"anthropic-beta", b"effort-2025-11-24,other-2026-01-01"), (b"anthropic-version", b"2023-06-01")),
        is_reworded=True,
    ),
    "vertex to foundry, another model": Case(
        *("vertex", RAW, VERSION | MESSAGES, f"foundry/{OLD}", "/anthropic/v1/messages", {"model": OLD} | MESSAGES),
        is_reworded=True,
    ),
    "anthropic to vertex": Case(
        *(
            "anthropic",
            "/v1/messages?beta=true",
            {"model": OPUS, "stream": True, "betas": ["x"]} | MESSAGES,
            f"vertex/{OLD}-20251101",
        ),
        *(f"{OURS}/anthropic/models/{OLD}@20251101:streamRawPredict", VERSION | {"stream": True} | MESSAGES),
        sent_headers=((b"anthropic-beta", b"effort-2025-11-24"),),
        is_reworded=True,
    ),
    "foundry to vertex": Case(
        *("foundry", "/v1/messages", {"model": OPUS} | MESSAGES, f"vertex/{OPUS}"),
        *(f"{OURS}/anthropic/models/{OPUS}:rawPredict", VERSION | MESSAGES),
        is_reworded=True,
    ),
    "a name that would be more than a name in a path": Case(
        *("anthropic", "/v1/messages", {"model": OPUS} | MESSAGES, f"vertex/{OPUS}/x:predict"),
        *(f"{OURS}/anthropic/models/{OPUS}%2Fx%3Apredict:rawPredict", VERSION | MESSAGES),
        is_reworded=True,
    ),
    "gemini to vertex": Case(
        *("gemini", f"/v1beta/models/{FLASH}:streamGenerateContent?alt=sse", CONTENTS, "vertex/gemini-3-pro"),
        f"/v1beta1/projects/ours/locations/eu{GENERATE}".replace(FLASH, "gemini-3-pro"),
        is_reworded=True,
    ),
    "vertex to gemini": Case(
        *("vertex", f"/v1{GENERATE}", CONTENTS, f"gemini/{FLASH}", f"/v1beta/models/{FLASH}:streamGenerateContent?alt=sse"),
        is_reworded=True,
    ),
    "the other maker": Case(
        *(
            "vertex",
            RAW,
            VERSION | MESSAGES,
            f"vertex/{FLASH}",
            f"/v1beta1/projects/ours/locations/eu/publishers/google/models/{FLASH}:generateContent",
        ),
        is_translated=True,
        sent_body={},
    ),
    "openai to vertex": Case(
        *(
            "openai",
            "/v1/chat/completions",
            {"model": "gpt", "messages": SAID},
            f"vertex/{OPUS}",
            f"{OURS}/anthropic/models/{OPUS}:rawPredict",
        ),
        is_translated=True,
        sent_body={},
    ),
}


@pytest.fixture(scope="module")
def providers(tmp_path_factory):
    file = tmp_path_factory.mktemp("outgoing") / "policy.yaml"
    file.write_text(POLICY)
    return load(file, env={}, now=0).providers


@pytest.mark.parametrize("name", CASES)
def test_what_a_target_gets(providers, name):
    case = CASES[name]
    provider, _, model = case.target.partition("/")
    spoken = providers[case.spoken]
    call = Call("c1", 0, provider, "messages", envelope=case.spoken, protocol=spoken.protocol)
    raw = json.dumps(case.body, indent=1).encode()
    asked = case.body.get("model") or case.path.partition("/models/")[2].partition(":")[0]
    client, served = ClientRequest("POST", case.path, list(case.headers), raw), providers[provider]
    server = (served.scheme, served.host, served.port, served.prefix)
    found = outgoing(client, call, asked, Target(provider, model), served, server)
    assert found.request.target.decode() == case.sent
    assert (found.translation is not None, found.rewording is not None) == (case.is_translated, case.is_reworded)
    if case.sent_body is None:
        assert found.request.body == raw
    elif case.is_translated:
        sent = json.loads(found.request.body)
        assert "model" not in sent
        assert ("anthropic_version" in sent) == ("anthropic" in case.sent)
    else:
        assert json.loads(found.request.body) == case.sent_body
    if case.sent_headers is not None:
        own = (b"host", b"accept-encoding", b"content-length")
        assert tuple(h for h in found.request.headers if h[0] not in own) == case.sent_headers
    assert found.request.server == ("https", served.host, 443)


def test_the_host_is_that_of_the_region(providers):
    assert providers["vertex"].host == "aiplatform.eu.rep.googleapis.com"
    assert "us-east5-aiplatform.googleapis.com" in providers["vertex"].hosts
