"""Install a service by the commands that ``sluicegate deploy systemd`` prints, and run it within what its unit leaves it.

systemd itself runs only as a machine's first process. So a mount namespace stands for the machine: what the commands write
to /etc is gone with it. Of the unit its user, its environment, its credentials, its file systems and its lack of rights are
applied; its filter on system calls and what it hides of the kernel are not.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from support.harness import WAIT_S

MACHINE = """
set -euo pipefail
folder=$1 user=$2 state=$3
mkdir -p "$folder/changed" "$folder/work" "$folder/bin" "$state"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$folder/changed,workdir=$folder/work" /etc
printf '#!/bin/sh\\nexec "$@"\\n' >"$folder/bin/sudo"
chmod +x "$folder/bin/sudo"
PATH=$folder/bin:$PATH
{commands}
# What systemd does before it starts the service.
mount -t tmpfs tmpfs /run
credentials=/run/credentials/sluicegate.service
mkdir -p $credentials
{credentials}
chown -R "$user:" $credentials "$state"
mount --bind "$folder" "$folder"
mount --bind /etc/sluicegate/policy /etc/sluicegate/policy
mount -o remount,bind,ro /etc
mount -o remount,bind,ro /
cd /
# The tests' own Python may be in a home folder: reading is all that is left of root's rights.
rights=(--inh-caps=-all,+dac_read_search --ambient-caps=+dac_read_search --bounding-set=-all,+dac_read_search --no-new-privs)
exec setpriv --reuid="$user" --regid="$user" --clear-groups "${{rights[@]}}" env --ignore-environment {environment} {program}
"""


def values_of(unit: str, name: str) -> list[str]:
    """Return every value that a unit gives a setting."""
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{name}=")]


class Service:
    """The service while it runs; its files are below ``folder``, which lies outside of what is read-only for it."""

    def __init__(self, folder: Path, unit: str, commands: Sequence[str], cwd: Path, env: dict[str, str]) -> None:
        (self.user,), (self.program,) = values_of(unit, "User"), values_of(unit, "ExecStart")
        self.environment = [x.replace("%d", "/run/credentials/sluicegate.service") for x in values_of(unit, "Environment")]
        (state,) = (x.partition("=")[2] for x in self.environment if x.startswith("SLUICEGATE_STATE="))
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        os.chmod(folder / "notify", 0o666)
        loaded = [x.partition(":")[::2] for x in values_of(unit, "LoadCredential")]
        script = MACHINE.format_map(
            {
                "commands": "\n".join(commands),
                "credentials": "\n".join(f"install -m 0400 {path} $credentials/{name}" for name, path in loaded),
                "environment": shlex.join([*self.environment, f"NOTIFY_SOCKET={folder / 'notify'}", "PATH=/usr/bin:/bin"]),
                "program": self.program,
                "rights[@]": "{{rights[@]}}",
            }
        )
        self.log = (folder / "log").open("w+")
        command = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "bash",
            "-c",
            script,
            "bash",
            str(folder / "machine"),
            self.user,
            state,
        ]
        self.process = subprocess.Popen(command, cwd=cwd, env=env, stdout=self.log, stderr=subprocess.STDOUT)

    def wait_until_it_serves(self) -> None:
        """Wait for what systemd waits for."""
        self.manager.settimeout(1)
        for _ in range(int(WAIT_S)):
            try:
                assert self.manager.recv(100) == b"READY=1"
                return
            except TimeoutError:
                assert self.process.poll() is None, self.output()
        raise AssertionError(self.output())

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def path(self, path: str) -> Path:
        """Return one of its paths as this process sees it."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.manager.close()
        self.log.close()
