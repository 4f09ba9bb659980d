"""Questions to the logs, checked against the rows themselves: whatever is asked, index and sums say what they say."""

from __future__ import annotations

import _sqlite3
import base64
import csv
import ctypes
import io
import json
import sqlite3
from bisect import bisect
from collections import Counter, defaultdict

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluicegate.calls.adjustment import adjustment_of
from sluicegate.calls.record import COLUMNS, DETAIL_COLUMNS
from sluicegate.limits.ledger import Ledger
from sluicegate.logs import Logs, formats, histograms, reading, totals
from sluicegate.logs.filters import Filters, NotPermitted
from sluicegate.logs.index import LATENCY_EDGES_MS
from sluicegate.logs.index_file import IndexNotReady
from sluicegate.logs.listing import ADJUSTED, Page
from sluicegate.logs.parameters import DIMENSIONS, EXPORT, PAGING, SORTS, BadParameter, nearest
from sluicegate.storage.store import FILENAME, Rows, Store
from sluicegate.values import NANO, TOKEN_COLUMNS, nano_of, usd
from sluicegate.windows import DAY_MS, iso, parse_iso
from support.hypothesis_profiles import examples

T0 = parse_iso("2026-02-01")
NOW = T0 + 40 * DAY_MS


def record(number: int, at: int = T0, **changes):
    base = dict.fromkeys(COLUMNS) | {
        "id": f"call_{number:06}",
        "started_at": iso(at),
        "latency_ms": 1000 + number,
        "virtual_key_id": "vk-dev-alice",
        "user_id": "alice",
        "team_id": "team-engineering",
        "customer_id": "customer-acme",
        "provider": "anthropic",
        "model_requested": "claude-opus-5-5",
        "model_served": "claude-opus-5-5",
        "stream": 1,
        "status": 200,
        "outcome": "completed",
        "cost_nano": 1_000_000 * (number + 1),
        "cost_usd": "1",
        "estimated": 0,
        "session_id": "session-1",
    }
    return base | dict.fromkeys(TOKEN_COLUMNS, 10 + number) | changes


def shown(row, adjusted=None):
    """Return a record as lists and exports show it."""
    if adjusted is None:
        return row
    return row | {"adjustment_usd": usd(adjusted), "effective_cost_usd": usd((row["cost_nano"] or 0) + adjusted)}


def cost_of(row):
    return nano_of(row["effective_cost_usd"]) if "effective_cost_usd" in row else row["cost_nano"] or 0


class Books:
    """A database that calls are written to as the gateway writes them, and the logs over it."""

    def __init__(self, folder):
        self.store, self.ledger, self.rows = Store(folder / FILENAME), Ledger(), []
        self.logs = Logs(folder / FILENAME, lambda: NOW)

    def write(self, *rows):
        self.rows += [shown(row) for row in rows]
        self.store.write(self.ledger.take_changes(), Rows(list(rows)))

    def adjust(self, number, nano, row=None, at=T0, **scope):
        """Adjust the call in a row, or a scope."""
        subject = scope if row is None else {"call_id": self.rows[row]["id"]}
        made = adjustment_of(f"adj_{number}", at, nano, reason="", actor="dana", policy_revision="r", **subject)
        self.store.write(self.ledger.take_changes(), Rows(adjustments=[made]))
        if row is not None:
            self.rows[row] = shown(self.rows[row], nano_of(self.rows[row].get("adjustment_usd", "0")) + nano)

    def close(self):
        self.logs.close()
        self.store.close()


@pytest.fixture
def books(tmp_path):
    made = Books(tmp_path)
    yield made
    made.close()


def asked(**parameters):
    return Filters.read([(n, v) for n, v in parameters.items()])[0]


def ids(answer):
    return [row["id"] for row in answer["logs"]]


# -- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "parameter", "says"),
    [
        ([("vks", "a")], "vks", "'vks' is not a parameter here (did you mean vk?)"),
        ([("Team", "a")], "Team", "did you mean team?"),
        ([("selected_key_ids", "a")], "selected_key_ids", "is not a parameter here"),
        ([("vk", "")], "vk", "'vk' is empty: give a value or leave it out"),
        ([("vk", "a,,b")], "vk", "is empty"),
        ([("vk", "a"), ("virtual_key_ids", "b")], "virtual_key_ids", "'vk' and 'virtual_key_ids' are the same parameter"),
        ([("start", "2026-02-01"), ("start", "2026-02-02")], "start", "'start' is given twice"),
        ([("start", "yesterday")], "start", "must be a day such as 2026-02-28"),
        ([("end", "2026-02-30")], "end", "not '2026-02-30'"),
        ([("end", "9999-12-31")], "end", "between 2000 and 2100"),
        ([("start", "0001-01-01T00:00:00+14:00")], "start", "between 2000 and 2100"),
        ([("start", "2026-03-01"), ("end", "2026-02-01")], "start", "'start' is after 'end'"),
        ([("status", "sucess")], "status", "did you mean success?"),
        ([("status", "success,429")], "status", "not both"),
        ([("outcome", "deny")], "outcome", "did you mean denied?"),
        ([("reason", "budget")], "reason", "did you mean budget_exceeded?"),
        ([("provider", "Anthropic!")], "provider", "must be a provider's name, such as anthropic"),
        ([("min_latency", "-1")], "min_latency", "must be a whole number from 0"),
        ([("max_cost", "much")], "max_cost", "must be an amount in dollars"),
        ([("max_cost", "NaN")], "max_cost", "must be an amount in dollars"),
        ([("min_cost", "2"), ("max_cost", "1")], "min_cost", "is above 'max_cost'"),
        ([("limit", "0")], "limit", "from 1 to 1000, not '0'"),
        ([("limit", "1001")], "limit", "from 1 to 1000"),
        ([("offset", "1e3")], "offset", "must be a whole number"),
        ([("sort_by", "price")], "sort_by", "must be one of timestamp, latency, tokens, cost"),
        ([("order", "DESC")], "order", "did you mean desc?"),
        ([("stream", "1")], "stream", "must be one of true, false"),
        ([("vk", "x" * 300)], "vk", "at most 256"),
        ([("vk", ",".join(map(str, range(101))))], "vk", "at most 100 values"),
    ],
)
def test_what_cannot_be_used_is_refused_naming_it(pairs, parameter, says):
    with pytest.raises(BadParameter) as refused:
        Filters.read(pairs, PAGING)
    assert refused.value.parameter == parameter
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("start", "end", "low", "high"),
    [
        ("2026-02-01", "2026-02-28", "2026-02-01", "2026-03-01"),
        ("2026-02-01T10:00:00Z", "2026-02-01T11:00:00Z", "2026-02-01T10:00:00", "2026-02-01T11:00:00.001"),
        ("2026-02-01T10:00:00+02:00", "2026-02-01T10:00:00 02:00", "2026-02-01T08:00:00", "2026-02-01T08:00:00.001"),
        ("2026-02-01 10:00", "2026-02-01 10:00:30", "2026-02-01T10:00:00", "2026-02-01T10:00:30.001"),
    ],
)
def test_both_ends_are_included_and_a_day_is_whole(start, end, low, high):
    for names in (("start", "end"), ("start_time", "end_time")):
        filters = asked(**dict(zip(names, (start, end), strict=True)))
        assert (filters.start, filters.end) == (parse_iso(low), parse_iso(high))


def test_the_nearest_word_is_only_offered_if_it_is_near():
    assert nearest("zzzz", ["team", "user"]) == ""


def test_who_may_see_one_key_may_ask_for_no_other():
    assert asked(team="t").of_key("mine").values == {"team_id": ("t",), "virtual_key_id": ("mine",)}
    assert asked(vk="mine").of_key("mine").values == {"virtual_key_id": ("mine",)}
    for other in ("theirs", "mine,theirs"):
        with pytest.raises(NotPermitted):
            asked(vk=other).of_key("mine")


# -- the rows themselves as the oracle --------------------------------------------------------------------------------

NAMES = {
    "virtual_key_id": [None, "vk-a", "vk-b", "vk-c"],
    "user_id": [None, "alice", "bob"],
    "team_id": [None, "team-x", "team-y"],
    "customer_id": [None, "customer-acme"],
    "project_id": [None, "project-1", "project-2"],
    "session_id": [None, "session-1", "session-2"],
    "provider": ["anthropic", "openai"],
    "model_requested": [None, "opus", "haiku"],
    "model_served": [None, "opus"],
    "asked_model": [None, "opus", "openai/opus"],
    "outcome": ["completed", "denied", "failed", "cancelled", "interrupted"],
    "reason": [None, "budget_exceeded", "model_blocked"],
    "labels": [None, '{"cost_center":"47"}', '{"cost_center":"4711","site":"B"}', '{"note":"\\"site\\":\\"B\\""}'],
}

calls = st.fixed_dictionaries(
    {name: st.sampled_from(values) for name, values in NAMES.items()}
    | {name: st.sampled_from([None, 0, 1, 50, 9000]) for name in TOKEN_COLUMNS}
    | {
        "at": st.one_of(st.integers(T0, NOW), st.sampled_from([T0, T0 + DAY_MS - 1, T0 + DAY_MS, T0 + 3_600_000])),
        "latency_ms": st.one_of(st.none(), st.sampled_from([0, LATENCY_EDGES_MS[3], 1_500_000]), st.integers(0, 100_000)),
        "cost_nano": st.sampled_from([None, 0, 5, 1_000_000, NANO]),
        "status": st.sampled_from([None, 200, 429]),
        "stream": st.integers(0, 1),
        "shadow_nano": st.none() | st.integers(0, 10**10),
        "cache": st.sampled_from([None, "hit", "miss", "bypass"]),
        "saved_nano": st.none() | st.integers(0, 10**10),
        "estimated": st.integers(0, 1),
    }
)

NAMED = {"virtual_key_id": "vk", "user_id": "user", "team_id": "team", "customer_id": "customer", "project_id": "project"} | {
    n: n for n in ("provider", "model_requested", "asked_model", "model_served", "outcome", "reason")
}


@st.composite
def questions(draw):
    pairs = {}
    for column in draw(st.sets(st.sampled_from([*NAMED, "session_id"]), max_size=2)):
        some = draw(st.lists(st.sampled_from([v for v in NAMES[column] if v]), min_size=1, max_size=2, unique=True))
        pairs[NAMED.get(column, "session")] = ",".join(some)
    if draw(st.booleans()):
        pairs["model"] = draw(st.sampled_from(["opus", "haiku"]))
    for name, values in (
        ("status", ("success", "error", "429", "200")),
        ("stream", ("true",)),
        ("estimated", ("false",)),
        ("subscription", ("true", "false")),
        ("cache", ("hit", "miss,bypass")),
        ("label", ("cost_center:47", "site:B", "cost_center:4711,site:B", "none:x")),
    ):
        if draw(st.integers(0, 5)) == 0:
            pairs[name] = draw(st.sampled_from(values))
    for name, values in (("latency", ("0", "5000")), ("tokens", ("1", "9000")), ("cost", ("0.001", "1"))):
        if draw(st.integers(0, 5)) == 0:
            pairs[f"{draw(st.sampled_from(('min', 'max')))}_{name}"] = draw(st.sampled_from(values))
    moments = sorted(
        draw(st.lists(st.one_of(st.integers(T0, NOW), st.integers(0, 40).map(lambda d: T0 + d * DAY_MS)), min_size=2, max_size=2))
    )
    if draw(st.booleans()):
        pairs["start"] = iso(moments[0])
    if draw(st.booleans()):
        pairs["end"] = iso(moments[1])
    return pairs


def total(row):
    return sum(row[n] or 0 for n in TOKEN_COLUMNS)


def model_of(row):
    return row["model_served"] or row["model_requested"]


def asked_for(row, column):
    """The value of a column; where nothing chose another model, the client asked for the one that its provider was asked for."""
    return row["asked_model"] or row["model_requested"] if column == "asked_model" else row[column]


def cached(rows):
    hits, misses = (sum(r["cache"] == what for r in rows) for what in ("hit", "miss"))
    rate = round(100 * hits / (hits + misses), 2) if hits + misses else None
    saved = sum(r["saved_nano"] or 0 for r in rows) / NANO
    return {"cache_hits": hits, "cache_misses": misses, "cache_hit_rate": rate, "total_saved": saved}


def matches(row, pairs):
    at, latency, cost = parse_iso(row["started_at"]), row["latency_ms"], cost_of(row)
    for name, text in pairs.items():
        values = text.split(",")
        column = next((c for c, n in NAMED.items() if n == name), name)
        if name == "start" and at < parse_iso(text):
            return False
        if name == "end" and at > parse_iso(text):
            return False
        if name == "model" and model_of(row) not in values:
            return False
        if name == "session" and row["session_id"] not in values:
            return False
        if name == "status" and not (
            str(row["status"]) == text if text.isdigit() else (row["outcome"] == "completed") == (text == "success")
        ):
            return False
        if name in ("stream", "estimated") and row[name] != (text == "true"):
            return False
        if name == "label" and not any(
            json.loads(row["labels"] or "{}").get(v.partition(":")[0]) == v.partition(":")[2] for v in values
        ):
            return False
        if name == "cache" and row["cache"] not in values:
            return False
        if name == "subscription" and (row["shadow_nano"] is not None) != (text == "true"):
            return False
        if name.startswith(("min_", "max_")):
            value = {"latency": latency, "tokens": total(row), "cost": cost}[name[4:]]
            bound = round(float(text) * NANO) if name.endswith("cost") else int(text)
            if value is None or (value < bound if name.startswith("min_") else value > bound):
                return False
        elif column in NAMES and asked_for(row, column) not in values:
            return False
    return True


ORDER = {
    "timestamp": lambda r: parse_iso(r["started_at"]),
    "latency": lambda r: -1 if r["latency_ms"] is None else r["latency_ms"],
    "tokens": total,
    "cost": cost_of,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    count = iter(range(10**9))

    def fresh():
        path = tmp_path_factory.mktemp(f"books-{next(count)}", numbered=False)
        return Books(path)

    return fresh


@given(
    drawn=st.lists(calls, max_size=40),
    asks=st.lists(questions(), min_size=1, max_size=3),
    sort_by=st.sampled_from(SORTS),
    order=st.sampled_from(["asc", "desc"]),
    limit=st.integers(1, 12),
    scanned=st.sampled_from([0, 100_000]),
    rare=st.sampled_from([1, 10**9]),
    adjusted=st.lists(st.tuples(st.integers(0, 39), st.sampled_from([-5, 7, NANO])), max_size=6),
)
@settings(max_examples=examples(120, ci=20), suppress_health_check=list(HealthCheck))
def test_lists_statistics_histograms_and_rankings_say_what_the_rows_say(
    folder, drawn, asks, sort_by, order, limit, scanned, rare, adjusted
):
    books = folder()
    reading_was = reading.MAX_SCANNED, reading.RARE_RATIO
    reading.MAX_SCANNED, reading.RARE_RATIO = scanned, rare
    try:
        rows = [record(i, **call) for i, call in enumerate(drawn)]
        # In two parts, so that sums are both made and added to.
        books.write(*rows[: len(rows) // 2])
        books.logs.stats(Filters())
        books.write(*rows[len(rows) // 2 :])
        for number, (row, nano) in enumerate(adjusted):
            if row < len(rows):
                books.adjust(number, nano, row)
                if number % 2:
                    books.logs.stats(Filters())
        for pairs in asks:
            check(books, [r for r in books.rows if matches(r, pairs)], pairs, sort_by, order, limit)
    finally:
        reading.MAX_SCANNED, reading.RARE_RATIO = reading_was
        books.close()


def check(books, found, pairs, sort_by, order, limit):
    filters = asked(**pairs)
    number = {r["id"]: i for i, r in enumerate(books.rows)}
    wanted = sorted(found, key=lambda r: (ORDER[sort_by](r), number[r["id"]]), reverse=order == "desc")
    listed, cursor = [], None
    while True:
        answer = books.logs.page(filters, Page(sort_by, order, limit, 0, cursor))
        listed += answer["logs"]
        cursor = answer["pagination"]["next_cursor"]
        if cursor is None:
            break
    wanted = [{name: row[name] for name in (*COLUMNS, *ADJUSTED) if name not in DETAIL_COLUMNS and name in row} for row in wanted]
    assert listed == wanted
    assert books.logs.page(filters, Page(sort_by, order, 5, 3))["logs"] == wanted[3:8]

    timed = [r["latency_ms"] for r in found if r["latency_ms"] is not None]
    done = sum(r["outcome"] == "completed" for r in found)
    refused = sum(r["outcome"] == "denied" for r in found)
    expected = {
        "total_requests": len(found),
        "completed_requests": done,
        "denied_requests": refused,
        "completion_rate": round(100 * done / (len(found) - refused), 2) if len(found) > refused else None,
        "success_rate": round(100 * done / len(found), 2) if found else 0,
        "average_latency": round(sum(timed) / len(timed), 2) if timed else 0,
        "total_tokens": sum(map(total, found)),
        "total_cost": sum(map(cost_of, found)) / NANO,
        "total_shadow_cost": sum(r["shadow_nano"] or 0 for r in found) / NANO,
        **cached(found),
    }
    assert books.logs.stats(filters) == expected == answer["stats"]
    assert answer["pagination"]["total_count"] == len(found)
    assert answer["has_logs"] == bool(books.rows)

    for name, column in DIMENSIONS.items():
        by = defaultdict(list)
        for row in found:
            by[model_of(row) if column == "model" else row[column]].append(row)
        ranked = books.logs.rankings(filters, name, "cost", 100)["rankings"]
        merged, shadows = defaultdict(int), defaultdict(int)
        for entry in ranked:
            merged[entry[column]] += entry["total_requests"]
            shadows[entry[column]] += round(entry["total_shadow_cost"] * NANO)
        assert shadows == {k or None: sum(r["shadow_nano"] or 0 for r in v) for k, v in by.items()}
        assert merged == {k or None: len(v) for k, v in by.items()}
    exported = [row for part in books.logs.export(filters, "asc") for row in part]
    assert exported == sorted(found, key=lambda r: (ORDER["timestamp"](r), number[r["id"]]))
    check_histograms(books, found, filters)


def check_histograms(books, found, filters):
    for kind in histograms.MEASURES:
        answer = books.logs.histogram(filters, kind, None)
        size = answer["bucket_size_seconds"] * 1000
        by = defaultdict(list)
        for row in found:
            by[parse_iso(row["started_at"]) // size * size].append(row)
        times = [parse_iso(b["timestamp"]) for b in answer["buckets"]]
        assert times == list(range(times[0], times[-1] + 1, size)) if times else not found
        assert set(by) <= set(times)
        if kind == "latency":
            bins = Counter(bisect(LATENCY_EDGES_MS, r["latency_ms"]) for r in found if r["latency_ms"] is not None)
            assert [d["calls"] for d in answer["distribution"]] == [bins[i] for i in range(len(LATENCY_EDGES_MS) + 1)]
            assert [d["under_ms"] for d in answer["distribution"]] == [*LATENCY_EDGES_MS, None]
        for bucket in answer["buckets"]:
            rows = by.get(parse_iso(bucket["timestamp"]), [])
            if kind == "requests":
                assert bucket["count"] == len(rows)
                assert bucket["success"] == sum(r["outcome"] == "completed" for r in rows)
            elif kind == "tokens":
                assert bucket["total_tokens"] == sum(map(total, rows))
                assert [bucket[n] for n in TOKEN_COLUMNS] == [sum(r[n] or 0 for r in rows) for n in TOKEN_COLUMNS]
            elif kind == "cost":
                assert bucket["total_cost"] == sum(map(cost_of, rows)) / NANO
                assert sum(round(v * NANO) for v in bucket["by_model"].values()) == round(bucket["total_cost"] * NANO)
            elif kind == "models":
                assert sum(part["total"] for part in bucket["by_model"].values()) == len(rows)
            else:
                timed = sorted(r["latency_ms"] for r in rows if r["latency_ms"] is not None)
                assert bucket["total_requests"] == len(timed)
                near(bucket["p90_latency"], timed, 0.9)


def near(told, timed, share):
    """The told percentile lies in the bin that the real one is in."""
    if not timed:
        assert told == 0
        return
    real = timed[max(0, -(-len(timed) * int(share * 100) // 100) - 1)]
    edges = [0, *LATENCY_EDGES_MS, 2 * LATENCY_EDGES_MS[-1]]
    low = max(e for e in edges[:-1] if e <= real)
    assert low <= told <= edges[edges.index(low) + 1]


# -- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort_by", SORTS)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_stay_put_while_calls_are_recorded(books, sort_by, order):
    books.write(
        *(record(i, T0 + i % 7 * 1000, latency_ms=i % 5, cost_nano=i % 4, **dict.fromkeys(TOKEN_COLUMNS, i % 3)) for i in range(60))
    )
    there = {r["id"] for r in books.rows}
    seen, cursor, number = [], None, 1000
    while True:
        answer = books.logs.page(Filters(), Page(sort_by, order, 7, 0, cursor))
        seen += ids(answer)
        cursor = answer["pagination"]["next_cursor"]
        if cursor is None:
            break
        books.write(
            *(record(number + i, T0 + i * 1000, latency_ms=i, cost_nano=i, **dict.fromkeys(TOKEN_COLUMNS, i)) for i in range(5))
        )
        number += 5
        if number > 1100:
            assert order == "asc" or sort_by == "timestamp" or number < 1300
    assert len(seen) == len(set(seen))
    assert there <= set(seen)


def with_position(cursor, *position):
    """The cursor, tampered with by somebody who wants it to point elsewhere."""
    *_, question = json.loads(base64.urlsafe_b64decode(cursor + "=="))
    return base64.urlsafe_b64encode(json.dumps([*position, question]).encode()).decode().rstrip("=")


def test_a_cursor_is_for_the_question_it_came_from(books):
    books.write(*(record(i) for i in range(5)))
    cursor = books.logs.page(asked(user="alice"), Page(limit=2))["pagination"]["next_cursor"]
    assert ids(books.logs.page(asked(user="alice"), Page(limit=9, cursor=cursor))) == ["call_000002", "call_000001", "call_000000"]
    for filters, page in (
        (asked(user="bob"), Page(cursor=cursor)),
        (asked(user="alice"), Page(order="asc", cursor=cursor)),
        (asked(user="alice"), Page(sort_by="cost", cursor=cursor)),
        (asked(user="alice"), Page(offset=1, cursor=cursor)),
        (asked(user="alice"), Page(cursor=cursor[:-4])),
        (asked(user="alice"), Page(cursor="%%%")),
        (asked(user="alice"), Page(cursor="W10")),
        (asked(user="alice"), Page(cursor="bnVsbA")),
        (asked(user="alice"), Page(cursor="é")),
        (asked(user="alice"), Page(cursor=with_position(cursor, 1 << 63, 1))),
        (asked(user="alice"), Page(cursor=with_position(cursor, 1, (1 << 64) - 1))),
    ):
        with pytest.raises(BadParameter):
            books.logs.page(filters, page)


def test_one_call_is_found_by_its_id(books):
    books.write(record(1), record(2))
    assert books.logs.one("call_000002") == books.rows[1]
    books.adjust(1, -1_000_000, 1)
    assert books.logs.one("call_000002") == books.rows[1]
    assert books.rows[1]["effective_cost_usd"] == "0.002"
    assert books.logs.one("call_000003") is None


def test_what_there_is_to_filter_by_leaves_out_what_refused_clients_made_up(books):
    made_up = {"outcome": "denied", "reason": "model_blocked", "model_served": None, "model_requested": "made-up", "user_id": "bob"}
    books.write(record(1), record(2, **made_up), record(3, virtual_key_id="vk-2", team_id=None))
    found = books.logs.facets(Filters())
    assert (found["models"], found["virtual_keys"], found["users"], found["teams"]) == (
        ["claude-opus-5-5"],
        ["vk-2", "vk-dev-alice"],
        ["alice", "bob"],
        ["team-engineering"],
    )
    assert books.logs.facets(asked(vk="vk-2"))["virtual_keys"] == ["vk-2"]
    assert books.logs.stats(asked(model="made-up"))["total_requests"] == 1


def test_a_ranking_says_how_it_compares_with_the_time_before(books):
    books.write(record(0, T0 - 5 * DAY_MS), record(1, T0), record(2, T0 + DAY_MS), record(3, T0, user_id="bob"))
    alice, bob = books.logs.rankings(asked(start=iso(T0), end=iso(T0 + 8 * DAY_MS)), "users", "requests", 10)["rankings"]
    assert (alice["user_id"], alice["total_requests"], alice["success_count"], alice["success_rate"]) == ("alice", 2, 2, 100)
    assert alice["trend"] == {
        "has_previous_period": True,
        "requests_trend": 100,
        "tokens_trend": round(100 * (115 - 50) / 50, 2),
        "cost_trend": 400,
        "latency_trend": 0.15,
    }
    assert (bob["user_id"], bob["trend"]["has_previous_period"]) == ("bob", False)
    (first,) = books.logs.rankings(Filters(), "models", "cost", 1)["rankings"]
    assert (first["model"], first["provider"], first["trend"]["has_previous_period"]) == ("claude-opus-5-5", "anthropic", False)


@pytest.mark.parametrize(
    ("length", "seconds"),
    [
        (3_600_000, 60),
        (5 * 3_600_000, 600),
        (2 * DAY_MS, 3600),
        (5 * DAY_MS, 28_800),
        (20 * DAY_MS, 86_400),
        (60 * DAY_MS, 259_200),
        (300 * DAY_MS, 604_800),
        (400 * DAY_MS, 2_592_000),
    ],
)
def test_the_longer_the_range_the_larger_the_buckets(books, length, seconds):
    books.write(record(1, T0 + length // 2))
    answer = books.logs.histogram(asked(start=iso(T0), end=iso(T0 + length - 1)), "cost", "users")
    assert (answer["bucket_size_seconds"], answer["users"]) == (seconds, ["alice"])
    assert sum(b["total_cost"] for b in answer["buckets"]) == 0.002
    assert [b["by_user"] for b in answer["buckets"] if b["total_cost"]] == [{"alice": 0.002}]


@pytest.mark.parametrize(("days", "seconds"), [(1, 3600), (7, 28_800), (30, 86_400), (90, 259_200)])
def test_the_last_days_have_buckets_of_one_size_at_every_minute(books, days, seconds):
    """A page's start is a few minutes old, and calls of the current hour are on record: neither changes the buckets."""
    books.write(record(1, NOW - 60_000))
    for late in range(0, 3_600_000, 300_000):
        books.logs.clock = lambda late=late: NOW + late
        for age in (0, 59_000, 6 * 60_000):
            answer = books.logs.histogram(asked(start=iso(NOW + late - days * DAY_MS - age)), "requests", None)
            assert answer["bucket_size_seconds"] == seconds
            assert parse_iso(answer["buckets"][-1]["timestamp"]) <= NOW + late


def test_no_more_names_than_can_be_shown_are_told_apart(books):
    books.write(*(record(i, user_id=f"user-{i:03}") for i in range(histograms.MAX_SERIES + 5)))
    answer = books.logs.histogram(Filters(), "cost", "users")
    assert answer["users"] == [f"user-{i:03}" for i in range(5, histograms.MAX_SERIES + 5)]
    assert sum(b["total_cost"] for b in answer["buckets"]) == pytest.approx(sum(r["cost_nano"] for r in books.rows) / NANO)


def test_percentiles_lie_between_the_edges_of_their_bin():
    assert totals.percentile({}, 0.5) == 0
    assert totals.percentile({-1: 9}, 0.5) == 0
    assert totals.percentile({0: 10}, 0.5) == LATENCY_EDGES_MS[0] / 2
    assert totals.percentile({0: 90, 5: 10}, 0.95) == (LATENCY_EDGES_MS[4] + LATENCY_EDGES_MS[5]) / 2
    assert totals.percentile({len(LATENCY_EDGES_MS): 1}, 0.99) > LATENCY_EDGES_MS[-1]


# -- the index --------------------------------------------------------------------------------------------------------


def counted(books):
    return books.logs.stats(Filters())["total_requests"]


def test_the_index_is_private_and_follows_the_records(books, tmp_path):
    assert counted(books) == 0
    books.write(record(1))
    assert counted(books) == 1
    assert (tmp_path / "logs.db").stat().st_mode & 0o777 == 0o600
    books.write(record(1), record(2))
    assert counted(books) == 2


@pytest.mark.parametrize("harm", ["garbage", "truncated", "another version", "another database", "gone"])
def test_an_index_that_cannot_be_used_is_made_anew(books, tmp_path, harm):
    books.write(*(record(i) for i in range(300)))
    assert counted(books) == 300
    books.logs.close()
    file = tmp_path / "logs.db"
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    if harm == "garbage":
        file.write_bytes(b"no database at all" * 1000)
    elif harm == "truncated":
        file.write_bytes(file.read_bytes()[:9000])
    elif harm == "another version":
        with sqlite3.connect(file) as conn:
            conn.execute("PRAGMA user_version = 99")
        conn.close()
    elif harm == "another database":
        with sqlite3.connect(file) as conn:
            conn.execute("UPDATE progress SET id = 'somebody else'")
        conn.close()
    else:
        file.unlink()
    books.logs = Logs(tmp_path / FILENAME, lambda: NOW)
    books.write(record(300))
    assert counted(books) == 301
    assert len(books.logs.page(Filters(), Page(limit=1000))["logs"]) == 301


def test_a_damaged_page_found_while_running_does_not_stop_the_logs(books, tmp_path):
    books.write(*(record(i) for i in range(2000)))
    assert counted(books) == 2000
    with (tmp_path / "logs.db").open("r+b") as file:
        file.seek(0)
        file.write(b"\0" * 65536)
    with (tmp_path / "logs.db-wal").open("r+b") as file:
        file.truncate(0)
    books.write(record(2000))
    with pytest.raises(sqlite3.DatabaseError):
        counted(books)
    assert counted(books) == 2001


def test_reading_and_indexing_never_hold_up_a_call(books):
    """The store never waits for a lock: if anything of ours held one, this would raise StoreBusy."""
    books.write(*(record(i) for i in range(10)))
    with books.logs.readers.reading() as conn:
        conn.execute("SELECT * FROM entries JOIN source.calls AS c ON c.rowid = row").fetchone()
        books.write(record(10))
    writer = books.logs.index._conn
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("SELECT count(*) FROM source.calls").fetchone()
    books.write(record(11))
    writer.execute("ROLLBACK")
    assert counted(books) == 12


def test_who_asks_while_the_index_is_being_made_is_told_how_far_it_is(books, monkeypatch):
    monkeypatch.setattr("sluicegate.logs.index_file.COPY_BATCH", 10)
    monkeypatch.setattr(reading, "INDEX_TIMEOUT_S", 0.0)
    books.write(*(record(i) for i in range(40)))
    with pytest.raises(IndexNotReady, match="25% done"):
        counted(books)
    while True:
        try:
            assert counted(books) == 40
            break
        except IndexNotReady:
            pass


def test_an_export_is_of_one_moment_and_reads_no_further_than_it_is_read(books):
    books.write(*(record(i, T0 + i) for i in range(1200)))
    export = books.logs.export(Filters(), "asc")
    first = next(export)
    assert len(first) == 500
    books.write(*(record(5000 + i, T0 + i) for i in range(100)))
    # A row that has not been read yet is still free to go.
    books.store._conn.execute("DELETE FROM calls WHERE id = 'call_001199'")
    rest = [row["id"] for part in export for row in part]
    assert rest == [f"call_{i:06}" for i in range(500, 1199)]


# -- adjustments of scopes ----------------------------------------------------------------------------------------------


@given(
    made=st.lists(st.tuples(st.integers(T0, NOW), st.sampled_from([None, "team-x", "team-y"]), st.integers(-9, 9)), max_size=12),
    start=st.integers(T0, NOW),
    length=st.integers(1, 40 * DAY_MS),
    team=st.sampled_from([None, "team-x"]),
)
@settings(max_examples=examples(60, ci=10), suppress_health_check=list(HealthCheck))
def test_what_was_adjusted_for_a_scope_is_in_sums_and_in_no_list(folder, made, start, length, team):
    books = folder()
    try:
        books.write(record(1, NOW - DAY_MS, cost_nano=100, team_id="team-x"))
        for number, (at, name, nano) in enumerate(made):
            books.adjust(number, nano, at=at, scope_kind="team", scope_id=name or "other", team_id=name)
            if number == 5:
                books.logs.stats(Filters())
        end = start + length
        pairs = {"start": iso(start), "end": iso(end)} | ({"team": team} if team else {})
        calls = [r for r in books.rows if matches(r, pairs)]
        expected = sum(map(cost_of, calls)) + sum(n for at, x, n in made if start <= at <= end and team in (None, x))
        filters = asked(**pairs)
        stats = books.logs.stats(filters)
        assert (stats["total_requests"], round(stats["total_cost"] * NANO)) == (len(calls), expected)
        for by in (None, "teams", "models"):
            buckets = books.logs.histogram(filters, "cost", by)["buckets"]
            assert round(sum(b["total_cost"] for b in buckets) * NANO) == expected
        ranked = books.logs.rankings(filters, "teams", "cost", 100)["rankings"]
        assert round(sum(r["total_cost"] for r in ranked) * NANO) == expected
        page = books.logs.page(filters, Page("cost", "asc"))
        assert (ids(page), page["pagination"]["total_count"]) == ([r["id"] for r in calls], len(calls))
        # A filter on what only a call has leaves them out.
        assert books.logs.stats(asked(**pairs, stream="true"))["total_cost"] == sum(map(cost_of, calls)) / NANO
        assert books.logs.stats(asked(**pairs, max_cost="1"))["total_cost"] == sum(map(cost_of, calls)) / NANO
        assert books.logs.stats(asked(**pairs, outcome="completed"))["total_cost"] == sum(map(cost_of, calls)) / NANO
        assert not books.logs.page(asked(vk="nobody"), Page())["logs"]
    finally:
        books.close()


# -- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evil", ['=HYPERLINK("http://x","y")', "+1", "-1+1|cmd", "@SUM(A1)", "\t=1", "\r=1", "＝1"])
def test_no_cell_of_a_csv_is_a_formula_and_all_of_it_can_be_read_back(evil):
    rows = [record(1, model_requested=evil, user_agent='a "quoted", long\nagent', session_id=None)]
    text = (formats.csv_header() + formats.csv_rows(rows)).decode()
    header, line = list(csv.reader(io.StringIO(text, newline="")))
    assert header == [*COLUMNS, *ADJUSTED]
    cells = dict(zip(header, line, strict=True))
    assert cells["model_requested"] == "'" + evil
    assert cells["user_agent"] == 'a "quoted", long\nagent'
    assert (cells["session_id"], cells["cost_nano"], cells["cost_usd"]) == ("", "2000000", "1")


def test_verdicts_are_in_one_call_and_in_exports_and_in_no_list(books):
    verdict = ["team", "team-a", "usd", "1M", "soft", 50, 40, 5, 2, None, True]
    books.write(record(1, limits=[verdict, verdict]), record(2, limits=[]), record(3))
    assert [books.logs.one(f"call_00000{n}")["limits"] for n in (1, 2, 3)] == [[verdict, verdict], [], None]
    assert not any("limits" in row for row in books.logs.page(Filters(), Page())["logs"])
    (rows,) = books.logs.export(Filters(), "asc")
    assert rows == books.rows
    cells = [line[list(COLUMNS).index("limits")] for line in csv.reader(io.StringIO(formats.csv_rows(rows).decode(), newline=""))]
    assert (orjson.loads(cells[0]), cells[1:]) == ([verdict, verdict], ["[]", ""])
    with sqlite3.connect(books.logs.index.path) as index:
        assert not [sql for (sql,) in index.execute("SELECT sql FROM sqlite_schema") if "limits" in (sql or "")]
    index.close()


def test_json_lines_are_the_records():
    rows = [record(1), record(2, model_requested="=1", limits=[["team", "a", "usd", "1M", "soft", 5, 4, 0, 2, None, True]])]
    assert [orjson.loads(line) for line in formats.jsonl_rows(rows).splitlines()] == rows


def test_an_export_takes_its_own_order_and_format():
    assert Filters.read([("format", "jsonl"), ("order", "desc")], EXPORT)[1] == {"format": "jsonl", "order": "desc"}
    with pytest.raises(BadParameter, match="did you mean"):
        Filters.read([("cursor", "x"), ("formt", "csv")], EXPORT | {"cursor": PAGING["cursor"]})


def test_the_index_takes_no_more_memory_the_longer_it_is(books):
    used = ctypes.CDLL(_sqlite3.__file__).sqlite3_memory_used
    used.restype = ctypes.c_int64
    taken = []
    for thousands in range(40):
        first = thousands * 1000
        books.write(*(record(first + n, T0 + 1000 * (first + n), latency_ms=(first + n) * 7919 % 100_003) for n in range(1000)))
        books.logs.catch_up()
        taken.append(used())
    assert max(taken) - taken[9] < 1 << 20
