"""The fleet under compose, as far as it can start without containers: by its files' environment, secrets and commands alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluicegate.operations.deployment.site import Site
from sluicegate.operations.deployment.targets import prepare
from support.command import SLUICEGATE
from support.harness import START_TIMEOUT_S, eventually
from support.ports import free_port
from support.postgres import Postgres

pytestmark = pytest.mark.wire


def image_environment(dockerfile: str) -> dict[str, str]:
    """Return what the image sets for its process, of the last stage."""
    (lines,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", dockerfile, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in lines.replace("\\\n", " ").split())


@pytest.mark.long
def test_a_gateway_of_the_fleet_starts_by_what_its_files_say(tmp_path: Path, postgres: Postgres) -> None:
    made = prepare("compose-fleet", Site("llm.acme.example", free_port(), str(tmp_path / "state"), "llm"))
    for name, text in made.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    mounted = {"/etc/sluicegate": str(tmp_path / "policy"), "/run/secrets": str(tmp_path / "secrets")}

    def here(text: str) -> str:
        for there, place in mounted.items():
            text = text.replace(there, place)
        return text

    path = tmp_path / "policy/policy.yaml"
    path.write_text(here(path.read_text()))
    env = {"PATH": os.environ["PATH"], "ANTHROPIC_API_KEY": "sk-ant-real"}
    secrets = [c for c in made.next_commands if not c.startswith(("cp ", "sudo ", "docker "))]
    subprocess.run(["sh", "-ec", "\n".join(secrets)], cwd=tmp_path, env=env, check=True, capture_output=True)
    service: dict[str, Any] = yaml.safe_load(made.files["compose.yaml"])["services"]["gateway-a"]
    dockerfile = made.files["Dockerfile"]
    env = {"PATH": os.environ["PATH"]} | {k: here(v) for k, v in image_environment(dockerfile).items() if k != "PATH"}
    env |= {k: here(v) for k, v in service["environment"].items()}
    (command,) = re.findall(r"^CMD (.*)$", dockerfile, re.MULTILINE)
    with postgres.database() as url:
        # The name and the password of the database's container.
        address = tmp_path / "secrets/store"
        address.chmod(0o600)
        address.write_text(re.sub(r"@store/\w+", url[url.index("@") :], address.read_text()))
        gateway = subprocess.Popen(
            [SLUICEGATE, *json.loads(command)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            _, *check = service["healthcheck"]["test"]

            def is_healthy() -> bool:
                assert gateway.poll() is None, gateway.communicate()[0]
                return subprocess.run([sys.executable, *check[1:]], capture_output=True).returncode == 0

            eventually(is_healthy, START_TIMEOUT_S)
            # What the printed commands show: the node by its name, and a key for the first developer.
            for printed in (c for c in made.next_commands if c.startswith("docker compose exec gateway-a sluicegate ")):
                words = printed.partition(" sluicegate ")[2].split()
                done = subprocess.run([SLUICEGATE, *words], env=env, capture_output=True, text=True, timeout=START_TIMEOUT_S)
                assert done.returncode == 0, done.stderr
                assert ("gateway-a" if words[0] == "nodes" else "vk-") in done.stdout
            assert yaml.safe_load(path.read_text())["virtual_keys"]
        finally:
            gateway.send_signal(signal.SIGTERM)
            said, _ = gateway.communicate(timeout=START_TIMEOUT_S)
    assert gateway.returncode == 0, said
