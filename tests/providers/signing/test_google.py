"""Google accounts: one token for all calls, fetched in a thread, before it ends, and for whoever waits at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading

import pytest

from sluicegate.providers.signing import google
from sluicegate.providers.signing.account import CannotSignError, OutgoingRequest
from sluicegate.providers.signing.google import LAST_USE_S, REFRESH_S, RETRY_S, Fetcher, GoogleAccount, Token, Tokens, problem_of
from support.harness import ADDONS
from support.vertex import TokenEndpoint

REQUEST = OutgoingRequest("POST", "https://aiplatform.googleapis.com/v1/x", b"{}")


class Source:
    """Gives tokens that last an hour, as many as are asked for, unless it is told to fail or to wait."""

    def __init__(self) -> None:
        self.now, self.given, self.fails = 1000.0, 0, False
        self.may_give = threading.Event()
        self.may_give.set()

    def __call__(self) -> Token:
        self.may_give.wait(60)
        self.given += 1
        if self.fails:
            raise CannotSignError("no")
        return Token(f"t{self.given}", self.now + 3600)


def run(test) -> Source:
    source = Source()
    asyncio.run(test(source, Tokens(source, lambda: source.now)))
    return source


def test_calls_that_come_at_once_wait_for_one_token_and_later_ones_have_it():
    async def calls(source, tokens):
        source.may_give.clear()
        waiting = [asyncio.ensure_future(tokens.current()) for _ in range(50)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        source.may_give.set()
        assert set(await asyncio.gather(*waiting[1:])) == {"t1"}
        source.now += 3600 - REFRESH_S - 1
        assert await tokens.current() == "t1"

    assert run(calls).given == 1


def test_a_token_is_renewed_before_its_end_while_calls_go_on_with_the_old_one():
    async def calls(source, tokens):
        await tokens.current()
        source.now += 3600 - REFRESH_S
        source.may_give.clear()
        assert [await tokens.current() for _ in range(5)] == ["t1"] * 5
        source.may_give.set()
        await tokens._work
        assert await tokens.current() == "t2"

    assert run(calls).given == 2


def test_a_renewal_that_fails_is_tried_again_after_a_while_and_nobody_waits_for_it():
    async def calls(source, tokens):
        await tokens.current()
        source.now += 3600 - REFRESH_S
        source.fails = True
        for _ in range(3):
            assert await tokens.current() == "t1"
            await asyncio.wait([tokens._work] if tokens._work else [asyncio.ensure_future(asyncio.sleep(0))])
        assert source.given == 2
        source.now += RETRY_S
        source.fails = False
        assert await tokens.current() == "t1"
        await tokens._work
        assert await tokens.current() == "t3"

    run(calls)


def test_a_token_at_its_end_is_not_used_and_a_failure_is_told_to_all():
    async def calls(source, tokens):
        await tokens.current()
        source.now += 3600 - LAST_USE_S
        source.fails = True
        found = await asyncio.gather(*(tokens.current() for _ in range(5)), return_exceptions=True)
        assert [str(e) for e in found] == ["no"] * 5
        with pytest.raises(CannotSignError):
            await tokens.current()
        assert source.given == 2

    run(calls)


@pytest.fixture(scope="module")
def endpoint():
    with TokenEndpoint() as endpoint:
        yield endpoint


def test_a_service_account_s_key_signs_for_a_token(endpoint):
    account = GoogleAccount(endpoint.account())

    async def headers():
        return [list(await account.headers(REQUEST)) for _ in range(3)]

    found = asyncio.run(headers())
    assert found == [[("authorization", f"Bearer {endpoint.given[-1]}")]] * 3
    assert len(endpoint.given) == 1
    assert "PRIVATE KEY" not in repr(account)
    google._tokens.clear()


def test_what_google_does_not_accept_is_named_without_a_secret(endpoint):
    stranger = json.loads(TokenEndpoint().account()) | {"token_uri": f"{endpoint.url}/token", "client_email": "other@x"}
    with pytest.raises(CannotSignError, match=r"^Google gave no token for account other@x \(invalid_grant\)$"):
        Fetcher(json.dumps(stranger))()
    stranger["token_uri"] = "http://127.0.0.1:9/token"
    with pytest.raises(CannotSignError, match=r"Google gave no token for account other@x \(TransportError\)"):
        Fetcher(json.dumps(stranger))()


def test_a_file_of_default_credentials_is_found(endpoint, tmp_path, monkeypatch):
    (tmp_path / "adc.json").write_text(endpoint.account())
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "adc.json"))
    assert Fetcher(None)().value == endpoint.given[-1]


@pytest.mark.parametrize("info", ["", "{", "[]", "{}", '{"type": 1}', '{"type": []}', "sk-key", '{"type": "external_account"}'])
def test_what_is_no_credentials_file_is_said_to_be_none(info):
    assert (problem_of(info) or "").startswith("it is not the JSON of a service account's key")
    assert problem_of('{"type": "service_account"}') is None


@pytest.mark.parametrize(
    ("uri", "is_taken"),
    [
        ("https://oauth2.googleapis.com/token", True),
        ("https://accounts.google.com.evil.example/token", False),
        ("https://evilgoogleapis.com/token", False),
        ("http://oauth2.googleapis.com/token", False),
        ("http://169.254.169.254/token", False),
        ("http://127.0.0.1:1/token", True),
        ("file:///etc/passwd", False),
        (7, False),
    ],
)
def test_tokens_come_from_google_alone(uri, is_taken):
    problem = problem_of(json.dumps({"type": "authorized_user", "token_uri": uri}))
    assert problem == (None if is_taken else "its token_uri is not Google's")


def test_a_file_that_google_auth_cannot_read_is_named():
    with pytest.raises(CannotSignError, match=r"is not a credentials file|Google gave no token"):
        Fetcher('{"type": "service_account", "client_email": "a@b"}')()


def test_google_auth_is_imported_by_the_first_token_alone():
    code = (
        f"import sys; sys.path.insert(0, {str(ADDONS)!r})\n"
        "import sluicegate.services, sluicegate.sending.exchange\n"
        "from sluicegate.providers.signing import google\n"
        "assert google.is_installed() and 'google.auth' not in sys.modules\n"
        "sys.modules['google.auth'] = None\n"
        'try:\n    google.Fetcher(\'{"type": "service_account"}\')()\n'
        "except google.CannotSignError as e:\n    print(e)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == google.NO_GOOGLE_AUTH
    assert "pip install 'sluicegate[vertex]'" in google.NO_GOOGLE_AUTH
