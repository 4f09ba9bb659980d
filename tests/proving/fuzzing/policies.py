"""Policy and price files: any content is either valid or refused line by line, in bounded time."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from proving.fuzzing.environment import Environment
from proving.fuzzing.policyreader import Files
from proving.fuzzing.target import target
from proving.fuzzing.yamltext import SECRETS, bombs, mutants, noise, price_list
from support.harness import eventually

files = st.one_of(mutants(), mutants(), mutants(), noise, bombs)


def verdict(environment: Environment, policy: Files) -> dict[str, Any]:
    """Read a policy. Raises AssertionError unless it is a snapshot that serves, or a list of mistakes with locations."""
    result = environment.reader.read(policy)
    assert "raised" not in result, result["raised"]
    lines = {n: len(re.split(rb"\r\n|[\r\n]|\xc2\x85|\xe2\x80[\xa8\xa9]", data)) for n, data in policy.items()}
    for problem in result.get("problems", ()):
        found = re.match(r".*/policies(?:/(\w+\.yaml):(\d+))?: ", problem)
        assert found, f"a mistake without its place: {problem!r}"
        assert problem.isprintable(), f"a mistake that is not one line: {problem!r}"
        assert len(problem) < 2000, f"a mistake described in {len(problem)} characters"
        if found[1]:
            # A text that breaks off has its mistake where the next line would be.
            assert 1 <= int(found[2]) <= lines[found[1]] + 1, f"a mistake in line {found[2]} of {lines}: {problem!r}"
    shown = "\n".join(result.get("problems", ())) + result.get("shown", "")
    for secret in (*SECRETS, "sk-from-env"):
        assert secret not in shown, f"a secret is shown: {shown[:600]}"
    return result


@target("policy files", "a policy that serves, or every mistake with file and line; in bounded time and memory", files, quick=12)
def policy_files(environment: Environment, example: Files) -> int:
    verdict(environment, example)
    return 1


@target("policy reload", "a good edit is in force, after a bad one the last good policy serves and /health says so", files, quick=3)
def policy_reload(environment: Environment, example: Files) -> int:
    policy = b"".join(example.values())
    result = verdict(environment, {"policy.yaml": policy})
    testbed = environment.testbed
    gateway = testbed.gateway
    good = gateway.policy.read_text()

    def health() -> dict[str, Any]:
        found: dict[str, Any] = gateway.admin("/health").json
        policy_state: dict[str, Any] = found["policy"]
        return found | policy_state

    before = health()["revision"]
    try:
        gateway.policy.write_bytes(policy)
        if "policy" in result:
            eventually(lambda: health()["revision"] == result["policy"])
            assert health()["status"] == "ok", "a good policy is in force, and /health is degraded"
        else:
            eventually(lambda: health()["status"] == "degraded")
            assert health()["revision"] == before, "a bad policy is in force"
            assert health()["error"]["line"] >= 1
            testbed.play([])
    finally:
        gateway.policy.write_text(good)
        eventually(lambda: (h := health())["status"] == "ok" and h["revision"] == before)
    testbed.play([])
    return 1


@target(
    "price files",
    "prices that cost any usage in bounds, or every mistake with file and line",
    mutants(price_list).map(lambda parts: {"prices.yaml": parts.get("a.yaml", b"")})
    | noise.map(lambda parts: {"prices.yaml": parts["a.yaml"]}),
    quick=20,
)
def price_files(environment: Environment, example: Files) -> int:
    result = environment.reader.read(example)
    assert "raised" not in result, result["raised"]
    assert all(re.match(r"prices\.yaml:\d+: ", problem) for problem in result.get("problems", ())), result
    return 1
