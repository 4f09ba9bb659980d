"""Client logins: when a request holds one, where it may go, and what a call with one costs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.call import Call
from sluicegate.calls.client_login import ClientLogin, judge_login, plan_with_login
from sluicegate.calls.plan import ONE_ATTEMPT, Plan, Target
from sluicegate.calls.record import draft_of, record_of
from sluicegate.calls.settlement import recorded_amounts, settle
from sluicegate.credentials import Credentials
from sluicegate.policy.loader import PolicyError, load
from sluicegate.policy.model import Policy
from sluicegate.policy.routes import Retry
from sluicegate.pricing.prices import Prices
from sluicegate.values import Deny, Outcome, Principal, Reason, RequestFacts, Usage, usd
from support.harness import policy_text

LOGIN, VK, OURS = "sk-ant-oat01-Abc_def-0123456789", "sk-sg-virtual-key-0123456789", "sk-ant-oat01-the-companys-own-key"
BEARER = ("Authorization", f"Bearer {LOGIN}")
PROXY = ("Proxy-Authorization", f"Bearer {VK}")


@dataclass(frozen=True)
class Key:
    id: str
    is_demo: bool = False


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


CREDENTIALS = Credentials({digest(VK): Key("vk")}, frozenset({digest(OURS)}))


@pytest.mark.parametrize(
    ("fields", "target", "is_one"),
    [
        ((BEARER, PROXY), "/v1/messages", True),
        ((BEARER,), "/v1/messages?beta=true", True),
        ((BEARER, PROXY, ("Cookie", "a=b")), "/v1/messages", True),
        ((("authorization", f"bearer {LOGIN}"), PROXY), "/", True),
        ((BEARER, ("x-api-key", VK)), "/", False),
        ((BEARER, ("x-api-key", "unknown")), "/", False),
        ((BEARER, ("x-bf-vk", VK)), "/", False),
        ((BEARER, ("x-goog-api-key", VK)), "/", False),
        ((BEARER, PROXY), f"/?key={VK}", False),
        ((BEARER, BEARER), "/", False),
        ((BEARER, ("Authorization", f"Bearer {VK}")), "/", False),
        ((("Authorization", f"Bearer {LOGIN}, Bearer {VK}"), PROXY), "/", False),
        ((("Authorization", f"Basic {LOGIN}"), PROXY), "/", False),
        ((("Authorization", LOGIN), PROXY), "/", False),
        ((("x-api-key", LOGIN), PROXY), "/", False),
        ((("Authorization", f"Bearer {OURS}"), PROXY), "/", False),
        ((("Authorization", "Bearer sk-ant-api03-somebodys-key"), PROXY), "/", False),
        ((("Authorization", "Bearer sk-ant-ort01-a-refresh-token"), PROXY), "/", False),
        ((("Authorization", "Bearer sk-ant-oat"), PROXY), "/", False),
        ((("Authorization", f"Bearer {LOGIN}\xe4"), PROXY), "/", False),
        ((("Authorization", "Bearer sk-ant-oat01-" + "x" * 2_000), PROXY), "/", False),
        ((PROXY,), "/", False),
    ],
)
def test_a_login_is_one_only_where_it_stands_alone(fields, target, is_one):
    written = tuple((name.encode(), value.encode("latin-1")) for name, value in fields)
    reading = CREDENTIALS.read(written, target.encode())
    assert reading.login == (written[0][1] if is_one else None)
    assert not [value for _, value in reading.fields if LOGIN.encode() in value]


def test_a_virtual_key_that_looks_like_a_login_is_a_virtual_key():
    credentials = Credentials({digest(LOGIN): Key("vk-odd")})
    reading = credentials.read(((b"Authorization", f"Bearer {LOGIN}".encode()),), b"/")
    assert (reading.key, reading.login) == (Key("vk-odd"), None)


def test_a_login_is_handed_out_once_and_never_shown():
    login = ClientLogin(b"Bearer " + LOGIN.encode())
    assert LOGIN not in f"{login!r} {login} {[login]}"
    assert login.take() == b"Bearer " + LOGIN.encode()
    with pytest.raises(LookupError):
        login.take()


def policy(folder: Path, text: str) -> Policy:
    file = folder / "policy.yaml"
    file.write_text(text)
    return load(file, env={}, now=0)


def passing(base_url: str | None, name: str = "anthropic", **more: object) -> str:
    return policy_text(providers={name: {"base_url": base_url, "subscriptions": "pass", **more}})


@pytest.mark.parametrize("base_url", [None, "https://api.anthropic.com", "http://127.0.0.1:8123", "http://localhost:8123"])
def test_logins_pass_to_their_own_provider_and_to_this_machine(tmp_path, base_url):
    provider = policy(tmp_path, passing(base_url)).providers["anthropic"]
    assert judge_login(provider, "claude-code") is None
    assert "passes none on" in judge_login(replace(provider, passes_subscriptions=False), "other").message


@pytest.mark.parametrize(
    ("base_url", "name", "more", "says"),
    [
        ("https://proxy.example.com", "anthropic", {}, "base_url must be https://api.anthropic.com, or on this machine"),
        ("https://api.anthropic.com.evil.example", "anthropic", {}, "base_url must be"),
        ("http://api.anthropic.com", "anthropic", {}, "base_url must be"),
        ("https://api.anthropic.com:8443", "anthropic", {}, "base_url must be"),
        ("http://10.0.0.5:8080", "anthropic", {}, "base_url must be"),
        (None, "openai", {}, "'pass' is for Claude logins, and openai is not where those are sent"),
        ("https://api.anthropic.com", "claude-eu", {"protocol": "anthropic"}, "claude-eu is not where those are sent"),
    ],
)
def test_logins_can_be_passed_nowhere_else(tmp_path, base_url, name, more, says):
    with pytest.raises(PolicyError) as refused:
        policy(tmp_path, passing(base_url, name, **more))
    assert f"providers.{name}.subscriptions: " in str(refused.value)
    assert says in str(refused.value)


def test_a_refused_login_is_told_what_to_do(tmp_path):
    provider = policy(tmp_path, policy_text("https://api.anthropic.com")).providers["anthropic"]
    refusal = judge_login(provider, "claude-code")
    assert refusal.reason is Reason.BLOCKED_BY_POLICY
    assert "/logout, or unset CLAUDE_CODE_OAUTH_TOKEN" in refusal.message
    assert "providers.anthropic.subscriptions: pass" in refusal.message


HOME, AWAY, OTHER_HOME = (
    Target("anthropic", "claude-haiku-5-5"),
    Target("openai", "gpt-4.1"),
    Target("anthropic", "claude-opus-5-5"),
)


@pytest.mark.parametrize(
    ("targets", "kept"),
    [((HOME,), HOME), ((AWAY, OTHER_HOME, HOME), OTHER_HOME), ((HOME, AWAY), HOME), ((AWAY,), None)],
)
def test_a_login_stays_at_its_own_provider_for_one_attempt(targets, kept):
    found = plan_with_login(Plan(targets, Retry(attempts=3), "a-route"), "anthropic")
    if kept is None:
        assert isinstance(found, Deny)
        assert "openai/gpt-4.1, where a Claude login cannot go" in found.message
    else:
        assert found == Plan((kept,), ONE_ATTEMPT, "a-route")
        assert found.is_direct("anthropic")


NOW, OPUS = 1_790_000_000_000, "claude-opus-5-5"
PRICES = Prices.load()
COUNTS = st.integers(0, 10**6)
USAGES = st.builds(
    Usage,
    COUNTS,
    COUNTS,
    cache_read_tokens=COUNTS,
    cache_write_1h_tokens=COUNTS,
    model=st.sampled_from([OPUS, "claude-haiku-5-5", "model-without-a-price", None]),
    estimated=st.booleans(),
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return policy(tmp_path_factory.mktemp("policy"), policy_text(None))


@given(st.none() | USAGES, USAGES, st.booleans(), st.sampled_from([None, 200, 400, 402, 429, 529]))
def test_a_call_with_a_login_costs_nothing_whatever_its_ending(plain, reported, expected, was_sent, status):
    """Its shadow is what the same call with a provider key is charged, and its tokens and requests count alike."""

    def made(login: ClientLogin | None) -> Call:
        call = Call("call-1", NOW, "anthropic", "messages", principal=Principal("vk"), login=login)
        call.facts, call.expected_usage, call.usage, call.expected_nano = RequestFacts(OPUS), expected, reported, 12_345
        return call

    paid = settle(made(None), plain, PRICES, was_sent=was_sent, status=status)
    call = made(ClientLogin(b"Bearer x"))
    settled = settle(call, plain, PRICES, was_sent=was_sent, status=status)
    assert (settled.cost_nano, settled.shadow_nano) == (0, paid.cost_nano)
    assert (settled.usage, settled.rate_amounts, paid.shadow_nano) == (paid.usage, paid.rate_amounts, None)
    call.usage, call.cost_nano, call.shadow_nano = settled.usage, settled.cost_nano, settled.shadow_nano
    call.outcome, call.status = Outcome.COMPLETED, status if was_sent else None
    record = record_of(call, NOW)
    assert (record["cost_usd"], record["shadow_usd"]) == ("0", usd(paid.cost_nano))
    assert recorded_amounts(record)["usd"] == 0
    assert recorded_amounts(record)["tokens"] == (settled.usage.total_tokens if settled.usage else 0)


def test_a_crash_charges_a_call_with_a_login_no_money():
    usage = Usage(1000, 500)
    call = Call("call-1", NOW, "anthropic", "messages", login=ClientLogin(b"Bearer x"), shadow_nano=0)
    call.facts = RequestFacts(OPUS)
    draft = draft_of(call, usage, 77)
    assert (draft["cost_nano"], draft["shadow_nano"], draft["shadow_usd"]) == (0, 77, usd(77))
    assert recorded_amounts(draft) == {"usd": 0, "tokens": 1500, "requests": 1, "concurrent": 0}
    call.login = call.shadow_nano = None
    assert (draft_of(call, usage, 77)["cost_nano"], draft_of(call, usage, 77)["shadow_nano"]) == (77, None)
