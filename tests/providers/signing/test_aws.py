"""AWS accounts: signatures over the bytes that are sent, and credentials that are found in a thread and renewed in time."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.providers.signing.account import CannotSignError, OutgoingRequest
from sluicegate.providers.signing.aws import MAX_AGE_S, RECHECK_S, RETRY_S, AccessKey, AwsAccount, MachineKeys
from support.aws_signatures import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, signature_problem
from support.harness import ADDONS

HOST = "bedrock-runtime.eu-central-1.amazonaws.com"
MODELS = (
    "eu.anthropic.claude-opus-5-5",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "us.anthropic.claude-sonnet-4-5-20250929-v1%3A0",
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile%2Fabc123",
)


def account(token: str | None = SESSION_TOKEN) -> AwsAccount:
    return AwsAccount("eu-central-1", AccessKey(ACCESS_KEY, SECRET_KEY, token))


def sign(signer: AwsAccount, target: str, body: bytes, method: str = "POST") -> dict[str, str]:
    request = OutgoingRequest(method, f"https://{HOST}{target}", body)
    return dict(asyncio.run(headers_of(signer, request)))


async def headers_of(signer: AwsAccount, request: OutgoingRequest) -> list[tuple[str, str]]:
    return list(await signer.headers(request))


@given(st.sampled_from(MODELS), st.binary(max_size=200), st.sampled_from(["", "?beta=true", "?b=2&a=1"]), st.booleans())
def test_a_signature_covers_the_bytes_that_are_sent(model, body, query, has_token):
    token = SESSION_TOKEN if has_token else None
    target = f"/model/{model}/invoke{query}"
    headers = sign(account(token), target, body) | {"host": HOST}
    assert set(headers) == {"host", "authorization", "x-amz-date"} | ({"x-amz-security-token"} if token else set())
    assert signature_problem("POST", target, headers, body, "eu-central-1", token) is None
    assert signature_problem("POST", target, headers, body + b" ", "eu-central-1", token) == "signature"
    assert signature_problem("POST", target.replace("invoke", "invoke2"), headers, body, "eu-central-1", token) == "signature"
    assert signature_problem("PUT", target, headers, body, "eu-central-1", token) == "signature"


def by_botocore(request: OutgoingRequest, token: str | None) -> dict[str, str]:
    """Return the headers of the signature that AWS's own library makes."""
    signed = AWSRequest(request.method, request.url, data=request.body)
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, token), "bedrock", "eu-central-1").add_auth(signed)
    return {name.lower(): str(value) for name, value in signed.headers.items()}


segments = st.text("abcXYZ019-._~:@!$&'()*+,=", min_size=1, max_size=30).filter(lambda s: s.strip("."))
pairs = st.tuples(st.text("abcXYZ-_.", min_size=1, max_size=5), st.text("abc019-_.~%2F", max_size=5))


@given(
    st.sampled_from(["POST", "GET"]),
    st.sampled_from([f"https://{HOST}", f"https://{HOST}:443", f"https://{HOST}:8443", "http://127.0.0.1:80", "http://[::1]:9000"]),
    st.lists(segments | st.sampled_from(MODELS), max_size=4),
    st.lists(pairs, max_size=4, unique_by=lambda p: p[0]),
    st.binary(max_size=200),
    st.booleans(),
)
def test_a_signature_is_what_botocore_makes(method, base, path, query, body, has_token):
    token = SESSION_TOKEN if has_token else None
    url = f"{base}/{'/'.join(path)}" + ("?" + "&".join(map("=".join, query)) if query else "")
    request = OutgoingRequest(method, url, body)
    ours, theirs = dict(asyncio.run(headers_of(account(token), request))), by_botocore(request, token)
    while ours["x-amz-date"] != theirs["x-amz-date"]:
        ours, theirs = dict(asyncio.run(headers_of(account(token), request))), by_botocore(request, token)
    assert ours == theirs


def test_secrets_are_in_no_repr():
    assert SECRET_KEY not in repr(account())
    assert SESSION_TOKEN not in repr(account())
    assert set(account().secrets) == {SECRET_KEY, SESSION_TOKEN}
    assert account() == account()
    assert hash(account()) == hash(account())


@dataclass
class Machine:
    """Credentials of a machine, as botocore has them, and a clock."""

    now: float = 1000.0
    reads: int = 0
    number: int = 1
    problem: Exception | None = None
    is_missing: bool = False

    def __post_init__(self) -> None:
        self.may_read = threading.Event()
        self.may_read.set()
        self.keys = MachineKeys(lambda: None if self.is_missing else self, lambda: self.now)

    def get_frozen_credentials(self) -> Any:
        """Return what botocore returns; called in a thread, it may take long."""
        self.reads += 1
        assert threading.current_thread() is not threading.main_thread()
        assert self.may_read.wait(60)
        if self.problem is not None:
            raise self.problem
        return SimpleNamespace(access_key=f"AKIA{self.number}", secret_key="s", token="t")

    async def settle(self) -> None:
        """Wait until a look in the background has ended."""
        assert self.keys._work is not None
        await asyncio.wait([self.keys._work])
        # Its callbacks come next.
        await asyncio.sleep(0)


def test_many_calls_wait_for_one_look_and_the_event_loop_goes_on():
    async def run() -> None:
        machine = Machine()
        machine.may_read.clear()
        calls = [asyncio.ensure_future(machine.keys.current()) for _ in range(50)]
        calls[0].cancel()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not any(call.done() for call in calls[1:])
        machine.may_read.set()
        assert {(await call).key_id for call in calls[1:]} == {"AKIA1"}
        assert machine.reads == 1

    asyncio.run(run())


def test_credentials_are_renewed_behind_the_calls_and_before_them_once_they_are_old():
    async def run() -> None:
        machine = Machine()
        keys = machine.keys
        assert (await keys.current()).key_id == "AKIA1"
        machine.number = 2
        machine.now += RECHECK_S - 1
        assert (await keys.current()).key_id == "AKIA1"
        assert machine.reads == 1
        machine.now += 2
        assert (await keys.current()).key_id == "AKIA1"
        await machine.settle()
        assert (await keys.current()).key_id == "AKIA2"
        assert machine.reads == 2
        # After a quiet hour nothing is sent with what may have expired.
        machine.number, machine.now = 3, machine.now + MAX_AGE_S + 1
        assert (await keys.current()).key_id == "AKIA3"

    asyncio.run(run())


def test_credentials_that_cannot_be_renewed_are_used_while_they_last():
    async def run() -> None:
        machine = Machine()
        keys = machine.keys
        await keys.current()
        machine.problem, machine.now = OSError("the metadata service is away"), machine.now + RECHECK_S + 1
        assert (await keys.current()).key_id == "AKIA1"
        await machine.settle()
        assert (await keys.current()).key_id == "AKIA1"
        machine.now += MAX_AGE_S
        with pytest.raises(CannotSignError, match=r"AWS gave no credentials to the gateway \(OSError\)"):
            await keys.current()
        reads = machine.reads
        with pytest.raises(CannotSignError):
            await keys.current()
        assert machine.reads == reads
        machine.problem, machine.now = None, machine.now + RETRY_S + 1
        assert (await keys.current()).key_id == "AKIA1"

    asyncio.run(run())


def test_a_machine_without_credentials_says_what_to_set():
    async def run() -> None:
        with pytest.raises(CannotSignError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            await Machine(is_missing=True).keys.current()

    asyncio.run(run())


def test_botocore_finds_the_credentials_of_the_environment_and_is_imported_by_the_first_signature_alone():
    """In a process of its own: imports and the environment belong to a process."""
    code = f"""
import asyncio, sys
sys.path.insert(0, {str(ADDONS)!r})
from sluicegate.providers.signing.account import CannotSignError, OutgoingRequest
from sluicegate.providers.signing.aws import AwsAccount
import sluicegate.policy.loader
assert "botocore" not in sys.modules
async def run():
    return await AwsAccount("eu-central-1").headers(OutgoingRequest("POST", "https://{HOST}/x", b""))
headers = dict(asyncio.run(run()))
assert "botocore" in sys.modules
assert headers["x-amz-security-token"] == "tok"
print(headers["authorization"].split("/")[0])
sys.modules["botocore"] = None
for name in [n for n in sys.modules if n.startswith("botocore.")]:
    del sys.modules[name]
from sluicegate.providers.signing.aws import load_botocore
try:
    load_botocore()
except CannotSignError as e:
    print(e)
"""
    env = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "tok", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first == "AWS4-HMAC-SHA256 Credential=AKIAENV"
    assert second.endswith("pip install 'sluicegate[bedrock]'")
    assert importlib.util.find_spec("botocore") is not None
