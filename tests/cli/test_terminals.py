"""What commands print where the terminal is narrow or the encoding has few characters."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shlex
import struct
import subprocess
import termios

import pytest

from support.command import SLUICEGATE, sluicegate

EIGHTY_COLUMNS = struct.pack("HHHH", 24, 80, 0, 0)


@pytest.fixture
def policy(tmp_path):
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    (tmp_path / "prices.yaml").write_text(
        "models: [{model: größe, prices: [{input: 1, cache_write_5m: 1, cache_write_1h: 1, cache_read: 1, output: 2}]}]\n",
        encoding="utf-8",
    )
    return tmp_path / "policy.yaml"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_encoding_can_print_every_name(policy, encoding):
    def run(*words):
        done = sluicegate("prices", "list", *words, "--policy", policy, env={"PYTHONIOENCODING": encoding})
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert ("gr??e" if encoding == "ascii" else "größe") in run("--model", "gr*e")
    assert [p["priced_as"] for p in json.loads(run("--model", "gr*e", "--json"))["prices"]] == ["größe"]


def test_blocks_of_the_usage_table_become_question_marks(policy, tmp_path):
    policy.write_text("version: 1\ncustomers: [{id: c, budget: {max_limit: 5, reset_duration: 1M}}]\n")
    done = sluicegate("usage", "--policy", policy, "--state-dir", tmp_path / "state", env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done


FULL = (1, "the output cannot be written: No space left on device\n")


@pytest.mark.covering
@pytest.mark.parametrize(("redirection", "ends"), [(">/dev/full", FULL), (">&-", (0, "")), (">&- 2>&- <&-", (0, ""))])
@pytest.mark.parametrize("word", ["--version", "usage"])
def test_a_full_disk_and_a_closed_stream_are_no_traceback(policy, tmp_path, word, redirection, ends):
    options = [] if word.startswith("--") else ["--policy", str(policy), "--state-dir", str(tmp_path / "state")]
    shell = ["sh", "-c", f"{shlex.join([SLUICEGATE, word, *options])} {redirection}"]
    done = subprocess.run(shell, env={"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    # Where no gateway has run, usage says so, which is not about the output.
    lines = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith("no gateway has recorded")]
    assert (done.returncode, "".join(lines)) == ends


def test_dates_are_whole_in_eighty_columns(policy):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, EIGHTY_COLUMNS)
    env = {"HOME": "/nonexistent", "TERM": "dumb"}
    command = [SLUICEGATE, "prices", "show", "gpt-5.6-sol", "--policy", policy]
    with subprocess.Popen(command, env=env, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        text = b""
        while True:
            try:
                text += (more := os.read(ours, 65536))
            except OSError:
                break
            if not more:
                break
        assert running.wait(60) == 0
    os.close(ours)
    lines = text.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert [" ".join(line.split()) for line in lines if line.startswith("batch")] == [
        "batch 2026-10-14 2 2.5 2.5 0.2 10",
        "batch > 272,000 2026-10-14 4 5 5 0.4 15",
    ]
