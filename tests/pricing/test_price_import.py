"""Importing published tables: both formats, what they would change, and what is then written."""

from __future__ import annotations

import errno
import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from sluicegate.policy.editing.price_entries import write_entries
from sluicegate.pricing.price_file import PriceError
from sluicegate.pricing.price_import import ImportFormatError, compare, differences, read_table, to_entry
from sluicegate.pricing.prices import Prices
from sluicegate.values import Usage
from sluicegate.windows import parse_iso

DAY = parse_iso("2026-12-01")
BEFORE, AFTER = DAY - 1, DAY
MIX = Usage(1_001, 509, 4_013, 203, 307)

GENAI = [
    {
        "id": "openai",
        "name": "OpenAI",
        "api_pattern": "https://api\\.openai\\.com",
        "model_match": {"starts_with": "gpt-"},
        "models": [
            {
                "id": "gpt-6.2-sol",
                "match": {"equals": "gpt-6.2-sol"},
                "context_window": 2_000_000,
                "prices": {
                    "input_mtok": {"base": 3, "tiers": [{"start": 272_000, "price": 6}]},
                    "cache_read_mtok": 0.3,
                    "cache_write_mtok": 3.75,
                    "output_mtok": {"base": 12, "tiers": [{"start": 272_000, "price": 18}]},
                },
                "price_variants": [{"when": {"service_tier": "flex"}, "prices": {"input_mtok": 1.5, "output_mtok": 6}}],
            },
            {
                "id": "gpt-4.1",
                "match": {"equals": "gpt-4.1"},
                "prices": [
                    {"prices": {"input_mtok": 2, "cache_read_mtok": 0.5, "output_mtok": 8}},
                    {"constraint": {"start_date": "2026-12-24"}, "prices": {"input_mtok": 1, "output_mtok": 4}},
                ],
            },
        ],
    },
    {
        "id": "anthropic",
        "name": "Anthropic",
        "api_pattern": "https://api\\.anthropic\\.com",
        "models": [
            {
                "id": "claude-opus-5-5",
                "match": {"starts_with": "claude-opus-5-5"},
                "prices": {
                    "input_mtok": 4,
                    "cache_write_mtok": 5,
                    "cache_write_1h_mtok": 8,
                    "cache_read_mtok": 0.2,
                    "output_mtok": 20,
                },
            },
            {"id": "claude-free", "match": {"equals": "claude-free"}, "prices": {"input_mtok": 0, "output_mtok": 0}},
        ],
    },
]

LITELLM = {
    "sample_spec": {"litellm_provider": "one of ...", "input_cost_per_token": 0},
    "claude-opus-5-5": {
        "litellm_provider": "anthropic",
        "mode": "chat",
        "input_cost_per_token": 5e-06,
        "output_cost_per_token": 2.5e-05,
        "cache_read_input_token_cost": 2.5e-07,
        "cache_creation_input_token_cost": 6.25e-06,
        "cache_creation_input_token_cost_above_1hr": 1e-05,
        "max_input_tokens": 1_000_000,
        "max_output_tokens": 128_000,
    },
    "claude-opus-5-5-20260922": {"litellm_provider": "anthropic", "input_cost_per_token": 9, "output_cost_per_token": 9},
    "gemini/gemini-2.5-pro": {
        "litellm_provider": "gemini",
        "input_cost_per_token": 1.25e-06,
        "input_cost_per_token_above_200k_tokens": 2.5e-06,
        "output_cost_per_token": 1e-05,
        "output_cost_per_token_above_200k_tokens": 1.5e-05,
        "cache_read_input_token_cost": 1.25e-07,
        "cache_read_input_token_cost_above_200k_tokens": 2.5e-07,
    },
    "dashscope/qwen3-coder-plus": {
        "litellm_provider": "dashscope",
        "input_cost_per_token": "1e-06",
        "output_cost_per_token": 5e-06,
    },
    "gpt-new": {
        "litellm_provider": "openai",
        "input_cost_per_token": 2e-06,
        "output_cost_per_token": 8e-06,
        "input_cost_per_token_priority": 4e-06,
        "output_cost_per_token_priority": 1.6e-05,
        "input_cost_per_token_batches": 1e-06,
        "output_cost_per_token_batches": 4e-06,
    },
    "bedrock/anthropic.claude-opus-5-5": {"litellm_provider": "bedrock", "input_cost_per_token": 1, "output_cost_per_token": 1},
    "whisper": {"litellm_provider": "openai", "input_cost_per_second": 0.0001},
    "broken": {"litellm_provider": "openai", "input_cost_per_token": "NaN", "output_cost_per_token": -1},
}


def read(raw):
    return read_table(json.dumps(raw).encode())


def imported(tmp_path, raw, since=DAY, pattern="*"):
    """Take a table into a folder's price file, as the command does, and return the changes and the prices then in force."""
    file = tmp_path / "prices.yaml"
    changes = compare(Prices.load(file if file.exists() else None), read(raw)[1], pattern, since)
    write_entries(file, [to_entry(c.after) for c in changes if c.status != "unchanged"])
    return {c.model: c.status for c in changes}, Prices.load(file)


def test_both_formats_are_told_apart():
    assert read(GENAI)[0] == "genai-prices"
    assert {p.model for p in read(GENAI)[1]} == {"gpt-6.2-sol", "gpt-4.1", "claude-opus-5-5"}
    assert read(LITELLM)[0] == "LiteLLM"
    assert {p.model for p in read(LITELLM)[1]} == {"claude-opus-5-5", "gemini-2.5-pro", "qwen3-coder-plus", "gpt-new"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not json", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "neither the data of genai-prices"),
        (b"7", "neither the data of genai-prices"),
        (b'{"a": {"input_cost_per_token": 1}}', "neither the data of genai-prices"),
        (b'[{"id": "openai"}]', "it cannot be read"),
        (b'[7, {"id": []}]', "it cannot be read"),
    ],
)
def test_anything_else_is_refused_with_the_reason(data, message):
    with pytest.raises(ImportFormatError, match=message):
        read_table(data)


def test_a_table_of_the_library_changes_what_it_says_from_its_day_on(tmp_path):
    found, prices = imported(tmp_path, GENAI)
    assert found == {"claude-opus-5-5": "unchanged", "gpt-4.1": "changed", "gpt-6.2-sol": "new"}
    sol = prices.price("gpt-6.2-sol", AFTER)
    assert (sol.origin, sol.is_estimated, sol.context_window(AFTER)) == ("operator", False, 2_000_000)
    assert prices.cost(Usage(272_000, 10), "gpt-6.2-sol", AFTER) == 272_000 * 3_000 + 10 * 12_000
    assert prices.cost(Usage(272_001, 10), "gpt-6.2-sol", AFTER) == 272_001 * 6_000 + 10 * 18_000
    assert prices.cost(Usage(1_000, service_tier="flex"), "gpt-6.2-sol", AFTER) == 1_500_000
    # A price that changes later on is taken with its own date; until then nothing changes, and neither does the past.
    old = Prices.load()
    for at in (0, BEFORE, AFTER, parse_iso("2026-12-23T23:59:59")):
        assert prices.cost(MIX, "gpt-4.1", at) == old.cost(MIX, "gpt-4.1", at)
    assert prices.cost(Usage(1_000), "gpt-4.1", parse_iso("2026-12-24")) == 1_000_000
    assert prices.price("claude-opus-5-5").origin == "own"


def test_a_table_of_litellm_changes_what_it_says_and_keeps_the_rest(tmp_path):
    found, prices = imported(tmp_path, LITELLM)
    assert found == {"claude-opus-5-5": "changed", "gemini-2.5-pro": "unchanged", "gpt-new": "new", "qwen3-coder-plus": "new"}
    old = Prices.load()
    assert prices.cost(MIX, "claude-opus-5-5", BEFORE) == old.cost(MIX, "claude-opus-5-5", BEFORE)
    by_hand = 1_001 * 5_000 + 203 * 6_250 + 307 * 10_000 + 4_013 * 250 + 509 * 25_000
    assert prices.cost(MIX, "claude-opus-5-5", AFTER) == by_hand
    opus = prices.price("claude-opus-5-5")
    # LiteLLM says nothing of them in a form that is read, so they stay.
    assert (opus.us_multiplier, opus.context_window(AFTER), bool(opus.fast)) == (Decimal("1.1"), 1_000_000, True)
    new = {
        tier: prices.cost(Usage(1_000, service_tier=tier), "gpt-new", AFTER) for tier in ("default", "priority", "batch", "flex")
    }
    assert new == {"default": 2_000_000, "priority": 4_000_000, "batch": 1_000_000, "flex": 1_000_000}
    assert not prices.price("qwen3-coder-plus").is_estimated


def test_a_class_that_a_table_does_not_list_keeps_its_share_of_input(tmp_path):
    table = {
        "claude-opus-5-5": {"litellm_provider": "anthropic", "input_cost_per_token": 4e-06, "output_cost_per_token": 2e-05},
        "gpt-4.1": {"litellm_provider": "openai", "input_cost_per_token": 1e-06, "output_cost_per_token": 8e-06},
    }
    old = Prices.load()
    found, prices = imported(tmp_path, table)
    assert found == {"claude-opus-5-5": "unchanged", "gpt-4.1": "changed"}
    assert prices.cost(MIX, "claude-opus-5-5", AFTER) == old.cost(MIX, "claude-opus-5-5", AFTER)
    for tokens in (Usage(1_000), Usage(cache_read_tokens=1_000), Usage(cache_write_5m_tokens=1_000)):
        assert prices.cost(tokens, "gpt-4.1", AFTER) * 2 == old.cost(tokens, "gpt-4.1", AFTER)
    assert imported(tmp_path, table)[0] == {"claude-opus-5-5": "unchanged", "gpt-4.1": "unchanged"}


def test_an_unlisted_class_of_a_new_model_is_never_cheaper_than_in_its_family(tmp_path):
    table = {"gpt-6.2-sol": {"litellm_provider": "openai", "input_cost_per_token": 2e-06, "output_cost_per_token": 1e-05}}
    _, prices = imported(tmp_path, table)
    # Its family writes at 1.25 times input and reads at a tenth, which nobody has said of this model.
    assert prices.cost(Usage(cache_write_5m_tokens=1_000), "gpt-6.2-sol", AFTER) == 2_500_000
    assert prices.cost(Usage(cache_read_tokens=1_000), "gpt-6.2-sol", AFTER) == 2_000_000


def test_a_new_price_in_tiers_from_a_day_to_come_leaves_its_family_priced(tmp_path):
    _, prices = imported(tmp_path, GENAI)
    prices.load_bundled()
    for at in (0, BEFORE, AFTER):
        assert prices.price("gpt-7-sol", at).is_estimated


def test_importing_twice_changes_nothing(tmp_path):
    for raw in (GENAI, LITELLM):
        imported(tmp_path, raw)
        text = (tmp_path / "prices.yaml").read_text()
        found, _ = imported(tmp_path, raw)
        assert set(found.values()) == {"unchanged"}
        assert (tmp_path / "prices.yaml").read_text() == text


PRICED = {"litellm_provider": "openai", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("gpt-x", {**PRICED, "output_cost_per_token": None}),
        ("gpt-x", {**PRICED, "output_cost_per_token": -5e-06}),
        ("gpt-x", {**PRICED, "output_cost_per_token": "soon"}),
        ("gpt-x", {**PRICED, "output_cost_per_token": 1e300}),
        ("gpt-x", {**PRICED, "mode": "image_generation", "output_cost_per_token": None}),
        ("gpt-x", {**PRICED, "input_cost_per_token": -1}),
        ("gpt-*", PRICED),
        ("gpt-[56]", PRICED),
        ("openai/", PRICED),
        ("", PRICED),
        ("gpt-\x1b[31mred", PRICED),
    ],
)
def test_what_has_no_price_or_no_name_of_its_own_is_left_out(name, entry):
    assert [p.model for p in read({name: entry, "gpt-fine": PRICED})[1]] == ["gpt-fine"]


def test_an_embedding_has_no_output_to_price():
    (price,) = read({"embed": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 1e-06}})[1]
    assert (price.rates[0].input, price.rates[0].output) == (1, 0)


def test_prices_by_ranges_of_the_prompt_are_kept():
    ranges = [
        {"input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06, "range": [0, 32_000.0]},
        {
            "input_cost_per_token": 3e-06,
            "output_cost_per_token": 15e-06,
            "cache_read_input_token_cost": 3e-07,
            "range": [32_000.0, 1e6],
        },
    ]
    entry = {"litellm_provider": "dashscope", "tiered_pricing": ranges}
    # The price beside the ranges is that of the first of them.
    for flat in ({}, {"input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06}):
        (price,) = read({"dashscope/qwen3-coder-plus": entry | flat})[1]
        assert [(r.above, r.input, r.output, r.cache_read) for r in price.rates] == [
            (0, 1, 5, 1),
            (32_000, 3, 15, Decimal("0.3")),
        ]
        assert price.unlisted == {"cache_write_5m", "cache_write_1h"}


@pytest.mark.parametrize("damage", [{"range": None}, {"range": []}, {"range": ["0"]}, {"input_cost_per_token": None}])
def test_ranges_that_are_not_understood_are_left_out(damage):
    ranges = [{"input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06, "range": [0, 32_000]}]
    ranges.append(ranges[0] | {"range": [32_000, 64_000]} | damage)
    assert read({"qwen": {"litellm_provider": "dashscope", "tiered_pricing": ranges}, "other": PRICED})[1][0].model == "other"


def test_a_service_tier_becomes_dearer_with_the_prompt_as_the_standard_one_does():
    entry = PRICED | {
        "input_cost_per_token_above_200k_tokens": 2e-06,
        "output_cost_per_token_above_200k_tokens": 3e-06,
        "input_cost_per_token_priority": 3e-06,
        "output_cost_per_token_priority": 6e-06,
        "input_cost_per_token_batches": 5e-07,
        "output_cost_per_token_batches": 1e-06,
        "output_cost_per_token_above_200k_tokens_batches": 1.4e-06,
    }
    (price,) = read({"model": entry})[1]
    assert [(r.above, r.input, r.output) for r in price.tiers["priority"]] == [(0, 3, 6), (200_000, 6, 9)]
    assert [(r.above, r.input, r.output) for r in price.tiers["batch"]] == [(0, Decimal("0.5"), 1), (200_000, 1, Decimal("1.4"))]


def test_a_tier_without_a_usable_price_is_left_out():
    (price,) = read({"gpt-x": {**PRICED, "input_cost_per_token_flex": -1, "input_cost_per_token": 1e-06}})[1]
    assert price.tiers.get("flex", price.rates) == price.rates


def test_a_glob_limits_what_is_taken(tmp_path):
    found, prices = imported(tmp_path, GENAI, pattern="gpt-6*")
    assert found == {"gpt-6.2-sol": "new"}
    assert prices.price("gpt-4.1").origin == "genai-prices"


def test_the_bundled_table_itself_would_change_only_what_our_own_corrects():
    prices = Prices.load()
    from sluicegate.pricing import bundled

    changed = {c.model for c in compare(prices, bundled.all_prices(), "*", parse_iso("2026-11-27")) if c.status != "unchanged"}
    assert changed <= {"claude-sonnet-4-5", "claude-2", "claude-v1", "claude-3-sonnet"}


def test_differences_name_each_tier_and_size():
    changes = {c.model: c for c in compare(Prices.load(), read(LITELLM)[1], "*", DAY)}
    opus = differences(changes["claude-opus-5-5"], DAY)
    assert [(tier, above, str(old.input), str(new.input)) for tier, above, old, new in opus] == [("standard", 0, "4", "5.000000")]
    new = differences(changes["gpt-new"], DAY)
    assert [(tier, above, old) for tier, above, old, _ in new] == [("standard", 0, None), ("priority", 0, None), ("batch", 0, None)]


WRITTEN = """\
# Ours, agreed with the provider.
version: 1
models:
  - model: gpt-4.1   # until the contract ends
    prices:
      - {input: 1.5, cache_write_5m: 1.5, cache_write_1h: 1.5, cache_read: 0.5, output: 6}
  # Everything else of theirs.
  - model: "gpt-*"
    prices: [{input: 9, cache_write_5m: 9, cache_write_1h: 9, cache_read: 9, output: 9}]
"""


def test_comments_and_other_entries_stay_and_a_name_comes_before_a_glob(tmp_path):
    file = tmp_path / "prices.yaml"
    file.write_text(WRITTEN)
    file.chmod(0o640)
    found, prices = imported(tmp_path, GENAI)
    assert found == {"claude-opus-5-5": "unchanged", "gpt-4.1": "changed", "gpt-6.2-sol": "changed"}
    text = file.read_text()
    assert text.startswith("# Ours, agreed with the provider.\nversion: 1\n")
    assert "gpt-4.1   # until the contract ends\n" in text
    assert '\n  # Everything else of theirs.\n  - model: "gpt-*"\n' in text
    assert file.stat().st_mode & 0o777 == 0o640
    assert prices.cost(Usage(1_000), "gpt-6.2-sol", BEFORE) == 9_000_000
    assert prices.cost(Usage(1_000), "gpt-6.2-sol", AFTER) == 3_000_000
    assert prices.cost(Usage(1_000), "gpt-4.1", BEFORE) == 1_500_000
    assert prices.cost(Usage(1_000), "gpt-4.1", AFTER) == 2_000_000
    assert prices.cost(Usage(1_000), "gpt-8", AFTER) == 9_000_000
    assert [p.name for p in tmp_path.iterdir()] == ["prices.yaml"]


def test_a_file_with_mistakes_is_left_alone(tmp_path):
    file = tmp_path / "prices.yaml"
    file.write_text("models: [{model: a}]\n")
    with pytest.raises(PriceError, match="an entry needs a model and a list of prices"):
        write_entries(file, [to_entry(read(GENAI)[1][0])])
    assert file.read_text() == "models: [{model: a}]\n"


def test_a_new_file_is_valid_and_says_what_it_is(tmp_path):
    file = tmp_path / "prices.yaml"
    write_entries(file, [to_entry(p) for p in read(GENAI)[1]])
    assert file.read_text().startswith("# Prices that come before the gateway's own")
    assert {p.model for p in Prices.load(file).listed() if p.origin == "operator"} == {"gpt-6.2-sol", "gpt-4.1", "claude-opus-5-5"}


def test_a_new_file_can_be_read_by_a_gateway_that_runs_as_another_user(tmp_path):
    tmp_path.chmod(0o755)
    file = tmp_path / "prices.yaml"
    write_entries(file, [to_entry(p) for p in read(GENAI)[1]])
    assert file.stat().st_mode & 0o777 == 0o644
    assert (file.stat().st_uid, file.stat().st_gid) == (tmp_path.stat().st_uid, tmp_path.stat().st_gid)


def test_a_write_that_fails_leaves_no_file_behind(tmp_path, monkeypatch):
    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(OSError, match="No space left"):
        write_entries(tmp_path / "prices.yaml", [to_entry(p) for p in read(GENAI)[1]])
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (there / "p.yaml").write_text(WRITTEN)
    (here / "prices.yaml").symlink_to(there / "p.yaml")
    write_entries(here / "prices.yaml", [to_entry(p) for p in read(GENAI)[1]])
    assert (here / "prices.yaml").is_symlink()
    assert "gpt-6.2-sol" in (there / "p.yaml").read_text()


def test_imports_at_once_lose_nothing(tmp_path):
    entries = [to_entry(p) for p in read(LITELLM)[1]]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda e: write_entries(tmp_path / "prices.yaml", [e]), entries))
    assert {p.model for p in Prices.load(tmp_path / "prices.yaml").listed() if p.origin == "operator"} == {
        e["model"] for e in entries
    }
