"""The commands for customers, teams, users, projects and keys, on the policy file and at a running gateway."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess

import pytest

from sluicegate.cli.main import app
from support.api import POLICY, Api
from support.command import CliRunner, sluicegate
from support.harness import ROOT, VK, ask, eventually

pytestmark = pytest.mark.wire


def cli(*arguments, **env):
    return sluicegate(*arguments, env=env)


def here(*arguments, **env):
    """The same in this process: a command's time is mostly that of its imports."""
    done = CliRunner().invoke(app, [*map(str, arguments)], env={"HOME": "/nonexistent"} | env)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def offline(tmp_path):
    """Commands on a policy file of their own; with ``read`` what they print as JSON."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)

    def run(*arguments, code=0):
        done = here(*arguments, "--policy", file, "--state-dir", tmp_path / "state")
        assert done.returncode == code, done
        return done.stdout if code == 0 else done.stderr

    run.file = file
    return run


GROUPS = {
    **dict.fromkeys(
        ("customer", "team", "user", "project"), ("create", "set", "list", "show", "top-up", "raise", "reset", "delete")
    ),
    "key": ("create", "set", "list", "show", "rotate", "expire", "top-up", "raise", "reset", "delete"),
}


def test_every_command_has_an_example_and_is_in_the_documents():
    docs = (ROOT / "docs/cli.md").read_text()
    for group, verbs in GROUPS.items():
        page = here(group, "--help").stdout
        for verb in verbs:
            assert re.search(rf"^  {verb} ", page, re.MULTILINE), (group, verb)
    for group in ("key", "team"):
        for verb in GROUPS[group]:
            said = here(group, verb, "--help").stdout
            assert "Example: sluicegate " in said
            assert f"`sluicegate {group} {verb}`" in docs
            for option in re.findall(r"--[a-z][a-z-]+", said):
                assert f"`{option}`" in docs or option in ("--help", "--inactive"), (group, verb, option)


def test_a_company_is_set_up_on_the_file_without_a_gateway(offline):
    assert "Customer created successfully: customer-globex" in offline("customer", "create", "Globex Corp", "--budget", "100/1M")
    offline("team", "create", "Data Science Team", "--customer", "globex", "--budget", "50/1w", "--hard", "--rate", "1000/1h")
    offline("user", "create", "Bob", "--id", "bob", "--team", "data science", "--tokens", "5000/1h")
    offline("project", "create", "Apollo", "--team", "data science", "--concurrent", "2")
    made = offline("key", "create", "--user", "bob", "--budget", "5/1d", "--model", "claude-haiku-*", "--model", "openai/gpt-5")
    value = re.search(r"vk-bob +(sk-sg-\S+)", made)[1]
    text = offline.file.read_text()
    assert value not in text
    for line in (
        "budget: {max_limit: 50, reset_duration: 1w, enforcement: hard}",
        "rate_limit: {request_max_limit: 1000, request_reset_duration: 1h}",
        '- {provider: anthropic, allowed_models: ["claude-haiku-*"]}',
        "- {provider: openai, allowed_models: [gpt-5]}",
        "# Our policy. This line stays.",
    ):
        assert line in text, text
    key = json.loads(offline("key", "show", "vk-bob", "--json"))
    assert (key["team"]["id"], key["customer"]["id"], key["budget"]["remaining"]) == ("team-data-science", "customer-globex", 5.0)
    assert offline("key", "create", "--user", "bob").startswith("vk-bob-2 ")
    taken = offline("team", "create", "DATA science", "--budget", "900/1w", code=1)
    assert "'DATA science' is taken by the team 'team-data-science' (Data Science Team): change that one" in taken
    offline("team", "set", "data science", "--budget", "none", "--rate", "none", "--customer", "none")
    team = json.loads(offline("team", "show", "team-data-science", "--json"))
    assert (team["budget"], team["rate_limit"], team["customer_id"]) == (None, None, None)
    assert "is still referred to by user bob" in offline("team", "delete", "team-data-science", code=1)
    said = offline("team", "delete", "team-data-science", "--detach")
    assert "Team deleted successfully" in said
    assert "detached user bob" in said
    assert "top-up" not in offline("key", "top-up", "vk-bob", "--amount", "$2.50")
    assert json.loads(offline("key", "show", "vk-bob", "--json"))["budget"]["max_limit"] == 7.5


def test_a_user_is_disabled_moved_and_deleted_with_the_keys(offline):
    assert offline("user", "disable", "alice", "--dry-run").split("\n")[:2] == [
        "user alice would be disabled",
        f"key {VK} would be refused",
    ]
    assert offline("user", "disable", "alice").splitlines() == ["user alice is disabled", f"key {VK} is refused"]
    assert "user disabled" in offline("key", "list", "--user", "alice")
    assert re.search(r"alice +team-engineering +inactive", offline("user", "list"))
    offline("key", "set", VK, "--inactive")
    assert offline("user", "enable", "alice").splitlines() == [
        "user alice is active",
        f"key {VK} is still refused: Virtual key '{VK}' is inactive",
    ]
    offline("key", "set", VK, "--active")
    offline("team", "create", "Platform")
    stays = f"key {VK} stays: paid by team team-engineering and customer customer-acme, which it or its project names"
    assert stays in offline("user", "set", "alice", "--team", "platform")
    assert f"key {VK} is with the user: paid by team team-platform" in offline(
        "user", "set", "alice", "--team", "platform", "--move-keys"
    )
    assert "--with-keys" in offline("user", "delete", "alice", code=1)
    assert "give either --with-keys or --keep-keys" in offline("user", "delete", "alice", "--with-keys", "--keep-keys", code=2)
    assert f"detached virtual_key {VK}" in offline("user", "delete", "alice", "--keep-keys", "--dry-run")
    said = offline("user", "delete", "alice", "--with-keys")
    assert said.splitlines() == ["User deleted successfully", f"deleted virtual_key {VK}"]
    assert json.loads(offline("key", "list", "--json"))["virtual_keys"] == []


def test_a_spreadsheet_of_people_is_applied_once(offline, tmp_path):
    table = tmp_path / "users.csv"
    table.write_bytes(
        "user;name;team;budget;models\r\nalice;;Platform;50/month;\r\nbo;Bö;Platform;;claude-haiku-*\r\n".encode("cp1252")
    )
    common = ("apply", "--from", table)
    before, values = offline.file.read_text(), tmp_path / "users-keys.csv"
    said = offline(*common, "--dry-run")
    assert re.search(r"2 +change +user +alice +team team-engineering -> Platform, budget none -> 50/1M by the calendar", said)
    assert said.splitlines()[-1] == "Would be: 5 changes"
    assert (offline.file.read_text(), values.exists()) == (before, False)
    assert offline(*common).splitlines()[-1] == f"5 changes, values of 1 new keys in {values}"
    assert values.stat().st_mode & 0o777 == 0o600
    (row,) = csv.DictReader(values.open())
    assert (row["id"], row["name"], row["user"], row["team"], row["value"][:6]) == ("vk-bo", "Bö", "bo", "Platform", "sk-sg-")
    assert "  # Who builds it\n" in offline.file.read_text()
    assert offline(*common) == "0 changes\n"
    table.write_text("user,team\nbo,\ncy,\n")
    kept = values.read_text()
    assert "File exists; nothing was created" in offline(*common, "--output", values, code=2)
    said = offline(*common)
    assert "in no row, left as they are: alice (--remove-missing disable or delete)" in said
    assert (values.read_text(), (tmp_path / "users-keys-2.csv").exists()) == (kept, True)
    assert offline(*common, "--remove-missing", "disable").splitlines()[-1] == "1 change"
    assert "inactive" in offline("user", "list", "--search", "alice")
    answer = json.loads(offline(*common, "--remove-missing", "delete", "--json"))
    assert [(c["action"], c["id"]) for c in answer["changes"]] == [("delete", "alice"), ("delete", VK)]
    before = offline.file.read_text()
    table.write_text("user,budget,models\ndee,50,\n\nbo,1/1x,a b\n")
    said = offline(*common, code=1).splitlines()
    assert said[0] == "2 mistakes; nothing was applied"
    assert said[1] == "row 2, budget: 50: write a number, a slash and a period, such as 50/month"
    assert said[2].startswith("row 4, budget: '1x' is not a duration")
    assert "is not one of report, disable, delete" in offline(*common, "--remove-missing", "drop", code=2)
    assert offline.file.read_text() == before


def test_a_budget_is_raised_for_a_time_or_for_good(offline):
    assert "raised until 2099-04-01T00:00:00Z" in offline("key", "raise", VK, "--amount", "20", "--until", "2099-03-31")
    key = json.loads(offline("key", "show", VK, "--json"))
    assert (key["budget"]["max_limit"], key["budget"]["limit_in_force"]) == (50, 70)
    assert key["budget"]["raises"] == [{"amount": 20, "until": "2099-04-01T00:00:00Z"}]
    assert "$0.00/70.00 per 1M 0%" in offline("key", "list")
    said = offline("key", "top-up", VK, "--amount", "5")
    assert f"for good; for a time: sluicegate key raise {VK} --amount 5 --until DATE" in said
    assert json.loads(offline("key", "show", VK, "--json"))["budget"]["limit_in_force"] == 75
    assert "is not in the future" in offline("key", "raise", VK, "--amount", "1", "--until", "2020-01-01", code=1)
    assert "write a day such as" in offline("key", "raise", VK, "--amount", "1", "--until", "2020-13-01", code=2)


def test_tables_say_what_is_used_without_colours_where_nobody_looks(offline):
    table = offline("key", "list")
    assert re.search(rf"{VK} +team-engineering +alice +active +\$0.00/50.00 per 1M 0%", table)
    assert "\x1b" not in table
    shown = offline("team", "show", "engineering")
    assert re.search(r"budget +\$0.00/500.00 per 1M 0%", shown)
    assert [k["id"] for k in json.loads(offline("key", "list", "--team", "engineering", "--json"))["virtual_keys"]] == [VK]
    assert offline("user", "list", "--search", "nobody").split() == ["id", "budget", "rate", "limit"]


def test_wrong_use_is_2_and_what_cannot_be_is_1_each_with_the_fix(offline):
    for code, words, says in (
        (2, ("key", "create"), "give the key an id, a --name or an owner"),
        (2, ("key", "create", "x", "--budget", "50"), "--budget 50: write a number, a slash and a period, such as 50/month"),
        (2, ("key", "create", "x", "--budget", "many/1M"), "'many' is not a number"),
        (2, ("key", "create", "x", "--rate", "1.5/1h"), "'1.5' is not a whole number"),
        (2, ("key", "reset", VK, "--only", "bugdet"), "is not one of all, budget, rate_limit"),
        (1, ("key", "create", "x", "--budget", "50/1mo"), "budget.reset_duration: '1mo' is not a duration"),
        (1, ("key", "create", "x", "--team", "enginering"), "did you mean team-engineering?"),
        (1, ("key", "create", VK), f"{VK} already exists; change it with: sluicegate key set {VK}"),
        (1, ("key", "set", "vk-dev-alcie", "--budget", "1/1d"), f"did you mean {VK}?"),
        (1, ("key", "rotate", VK, "--grace", "never"), "accepted forever"),
        (1, ("user", "top-up", "alice", "--amount", "5"), "has no budget"),
        (2, ("user", "top-up", "alice", "--amount", "-5"), "a top-up adds dollars; to lower a budget, write the new one"),
        (1, ("key", "show", VK, "--gateway", "http://127.0.0.1:9"), "admin-token"),
    ):  # fmt: skip
        said = offline(*words, code=code)
        assert says in " ".join(said.split()), (words, said)
    assert offline.file.read_text() == POLICY
    for nowhere in ("http://127.0.0.1:9", "http://127.0.0.1:port", "nonsense"):
        for command in (("key", "list"), ("env", "--ca", "/nowhere/ca.pem")):
            told = cli(*command, "--gateway", nowhere, SLUICEGATE_ADMIN_TOKEN="x")
            # Lines for a machine hold the address, so one that cannot be an address is wrong use.
            is_wrong = command[0] == "env" and nowhere != "http://127.0.0.1:9"
            words = "write it as http://HOST:PORT" if is_wrong else "does not answer"
            assert (told.returncode, len(told.stderr.splitlines()), words in told.stderr) == (1 + is_wrong, 1, True)


def test_a_whole_team_from_a_file(offline, tmp_path):
    rows = tmp_path / "users.csv"
    rows.write_text("Name,user,budget,model\nAda L,ada,20/1M,claude-haiku-* claude-sonnet-5\nBo,bo,,\nAlice two,alice,,\n")
    common = ("key", "create", "--from", rows, "--team", "engineering", "--budget", "10/1M")
    output = tmp_path / "keys.csv"
    assert "3 virtual keys would be created" in offline(*common, "--output", output, "--dry-run")
    assert offline.file.read_text() == POLICY
    assert not output.exists()
    said = offline(*common, "--output", output)
    assert said.splitlines() == ["user ada created", "user bo created", f"3 virtual keys created, values in {output}"]
    assert output.stat().st_mode & 0o777 == 0o600
    kept = list(csv.DictReader(output.open()))
    assert [(r["id"], r["name"], r["user"], r["team"]) for r in kept] == [
        ("vk-ada-l", "Ada L", "ada", "team-engineering"),
        ("vk-bo", "Bo", "bo", "team-engineering"),
        ("vk-alice-two", "Alice two", "alice", "team-engineering"),
    ]
    keys = {k["id"]: k for k in json.loads(offline("key", "list", "--json"))["virtual_keys"]}
    assert [keys[r["id"]]["budget"]["max_limit"] for r in kept] == [20, 10, 10]
    assert keys["vk-ada-l"]["provider_configs"][0]["allowed_models"] == ["claude-haiku-*", "claude-sonnet-5"]
    assert "  # Who builds it\n" in offline.file.read_text()
    before = offline.file.read_text()
    assert "File exists; nothing was created" in offline(*common, "--output", output, code=2)
    for text, says in (
        ("name,bugdet\nx,1/1d\n", "'bugdet' is not a column (did you mean budget?)"),
        ("name\na,b\n", "row 2 has 2 cells, but the first row has 1"),
        ("name\n", "there are no rows"),
    ):
        rows.write_text(text)
        assert says in offline(*common, code=2)
    rows.write_text("name,budget\nOne,1/1d\nTwo,1/1x\n")
    fresh = ("--output", tmp_path / "fresh.csv")
    assert "virtual_keys[1].budget.reset_duration: '1x' is not a duration" in offline(*common, *fresh, code=1)
    assert not fresh[1].exists()
    assert offline.file.read_text() == before, "all or none"


def test_the_examples_of_the_document_work_as_written(tmp_path):
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/cli.md").read_text(), re.DOTALL)
    lines = [x for x in block.splitlines() if x.startswith(("sluicegate team ", "sluicegate key create"))]
    (tmp_path / "policy.yaml").write_text((ROOT / "policies/acme.yaml").read_text())
    (tmp_path / "users.csv").write_text("name,user,budget\nAda,ada,20/1M\n")
    env = {"HOME": str(tmp_path), "SLUICEGATE_POLICY": str(tmp_path / "policy.yaml")}
    # None of these lines has anything for a shell to do but to split it.
    assert (len(lines), [x for x in lines if set(x) & set("$`|&;<>*?~")]) == (3, [])
    done = [sluicegate(*shlex.split(line)[1:], env=env, cwd=tmp_path) for line in lines]
    assert [d.returncode for d in done] == [0, 0, 0], done
    assert "Team created successfully: team-platform" in "".join(d.stdout for d in done)
    assert "ada" in (tmp_path / "keys.csv").read_text()


def test_the_same_at_a_running_gateway(gateway):
    gw = gateway(POLICY)
    api = Api(gw)
    at = ("--gateway", gw.url, "--state-dir", gw.state)

    def run(*words, code=0, **env):
        done = here(*words, *at, **env)
        assert done.returncode == code, done
        return done.stdout if code == 0 else done.stderr

    made = run("key", "create", "--team", "engineering", "--budget", "1/never")
    name, value = re.search(r"(vk-engineering) +(sk-sg-\S+)", made).groups()
    assert gw.post(ask("[simulate cost=1.00]"), key=value).status == 200
    assert gw.post(key=value).status == 402
    assert re.search(r"\$1.00/1.00 prepaid 100%", run("key", "list"))
    run("key", "reset", name, "--dry-run")
    assert gw.post(key=value).status == 402
    assert "Would be: Virtual key topped up" in run("key", "top-up", name, "--amount", "1", "--dry-run")
    run("key", "top-up", name, "--amount", "1")
    assert gw.post(key=value).status == 200
    run("key", "reset", name)
    assert api.ok("GET", f"virtual-keys/{name}")["virtual_key"]["budget"]["current_usage"] == 0
    second = run("key", "rotate", name, "--grace", "1h").split()[-1]
    assert gw.post(key=value).status == gw.post(key=second).status == 200
    run("key", "set", name, "--inactive")
    assert gw.post(key=second).status == 401
    run("key", "set", name, "--active", "--model", "claude-haiku-*")
    assert gw.post(key=second).status == 403
    run("key", "expire", name)
    assert re.search(rf"{name} .*expired", run("key", "list"))
    run("key", "delete", name)
    assert "there is no virtual_key" in run("key", "show", name, code=1)
    assert {e["who"] for e in api.ok("GET", "/api/audit")["entries"]} == {"admin"}
    said = run("team", "list", code=1, SLUICEGATE_ADMIN_TOKEN="wrong")
    assert "Unauthorized: send the admin token" in said
    assert "this command sends SLUICEGATE_ADMIN_TOKEN" in said


def test_beside_a_running_gateway_the_file_may_be_changed_and_the_trail_has_it_but_counters_are_the_gateways(gateway):
    gw = gateway(POLICY)
    api = Api(gw)
    where = ("--policy", gw.policy, "--state-dir", gw.state)
    assert gw.post(ask("[simulate cost=2.50]")).status == 200
    gw.calls(1)
    eventually(lambda: "$2.50/50.00" in here("key", "list", *where).stdout)
    assert here("key", "set", VK, "--budget", "2/1M", *where).returncode == 0
    eventually(lambda: gw.post().status == 402)
    (entry,) = api.ok("GET", "/api/audit")["entries"]
    assert re.fullmatch(r".+ \(command line\)", entry["who"])
    assert (entry["action"], entry["after"]["budget"]["max_limit"]) == ("update", 2)
    refused = here("key", "reset", VK, *where)
    assert (refused.returncode, "name it by --gateway, or stop it" in refused.stderr) == (1, True)
    gw.stop()
    assert here("key", "reset", VK, *where).returncode == 0
    assert "$0.00/2.00" in here("key", "list", *where).stdout
    gw.start()
    assert gw.post().status == 200
