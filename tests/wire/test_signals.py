"""SIGHUP reopens the journal and reads everything again; what is rotated is neither lost nor written twice, killed or not."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import orjson
import pytest

from support.fake_provider import plain
from support.harness import VK, eventually, policy_text, replace_file

pytestmark = pytest.mark.wire


def ids(*files: Path) -> list[str]:
    return [orjson.loads(line)["id"] for file in files for line in file.read_bytes().splitlines()]


def test_hup_reads_again_and_a_rotated_journal_is_complete_after_a_kill(gateway, provider, tmp_path):
    provider.script = plain()
    secret, prices = tmp_path / "provider-key", tmp_path / "gateway-0" / "prices.yaml"
    secret.write_text("sk-ant-first-key-of-the-provider")
    provider_entry = {"base_url": provider.url, "keys": [{"name": "key-1", "value": f"file:{secret}"}]}
    gw = gateway(policy_text(None, providers={"anthropic": provider_entry}))
    path = gw.state / "audit.jsonl"
    assert gw.post().status == 200
    assert provider.seen[-1].header("x-api-key") == "sk-ant-first-key-of-the-provider"

    gw.calls(1)
    # HUP: the journal that was moved away exists again, the secret's new value is used.
    one = path.rename(path.with_name("audit.jsonl.1"))
    replace_file(secret, "sk-ant-second-key-of-the-provider")
    gw.process.send_signal(signal.SIGHUP)
    gw.wait_for("Reading policy, secrets and prices again")
    eventually(path.exists)
    assert path.read_bytes() == b""

    def new_secret() -> bool:
        assert gw.post().status == 200
        return provider.seen[-1].header("x-api-key") == "sk-ant-second-key-of-the-provider"

    eventually(new_secret)
    assert len(ids(one)) == 1

    gw.calls(len(provider.seen))
    # Without a signal, and with a copy, too.
    two = path.rename(path.with_name("audit.jsonl.2"))
    assert gw.post().status == 200
    eventually(lambda: path.exists() and len(ids(path)) == 1)
    three = Path(shutil.copy(path, path.with_name("audit.jsonl.3")))
    path.write_bytes(b"")
    assert gw.post(key=VK).status == 200
    eventually(lambda: len(ids(path)) == 1)
    rows = [r["id"] for r in gw.calls(len(provider.seen))]

    # An invalid edit is reported and changes nothing; HUP ends no gateway.
    prices.write_text("models: nonsense")
    gw.process.send_signal(signal.SIGHUP)
    gw.wait_for("Prices cannot be read")
    prices.unlink()
    gw.process.kill()
    gw.process.wait()
    gw.start()
    assert sorted(ids(one, two, three, path)) == sorted(rows)
    assert [r["id"] for r in gw.rows()] == rows

    # Deleted: what it had stays in the database and is not written again.
    path.unlink()
    assert gw.post().status == 200
    eventually(lambda: path.exists() and len(ids(path)) == 1)
    gw.process.kill()
    gw.process.wait()
    gw.start()
    assert len(ids(path)) == 1
    assert len(gw.rows()) == len(rows) + 1
    gw.process.send_signal(signal.SIGTERM)
    assert gw.exit_code() == 0
