"""The repository of a folder, as git names its remote: ``git@github.com:Acme/API.git`` is ``github.com/acme/api``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

from sluicegate.policy.projects import check_claim

GIT_TIMEOUT_S = 10

_OTHER_PORT_HOSTS = {
    "ssh.github.com": "github.com",
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
}
"""Names under which hosts take ssh on the port of HTTPS, and the names that their repositories have."""

_URL = re.compile(r"(?:https?|ssh|git|git\+https?|git\+ssh|ssh\+git)://([^/@]*@)?([^/:@\[\]]+)(?::\d*)?/(.+)", re.IGNORECASE)
_SCP = re.compile(r"([^/:@]*@)?([^/:@\[\]]{2,}):(?!//)(.+)")
"""``user@host:path``; a host of one letter is a drive of Windows."""


def repository_of(remote: str) -> str | None:
    """Return ``host/owner/name`` of a remote's URL, without user, password, port and ``.git``; None for a local path."""
    remote = remote.strip()
    found = _URL.fullmatch(remote) if "://" in remote else _SCP.fullmatch(remote)
    # Without a user before the host, what stands before an @ may be the end of a password.
    if found is None or (found[1] is None and "@" in found[3]):
        return None
    host, path = found[2].lower().rstrip("."), unquote(found[3]).strip("/").removesuffix(".git").rstrip("/")
    try:
        claim = check_claim(f"{_OTHER_PORT_HOSTS.get(host, host)}/{path}")
    except ValueError:
        return None
    return claim


def folder_repository(folder: Path) -> str | None:
    """Return the repository of the remote ``origin``; None where there is none, or no git. Blocking.

    git only reads its configuration for this: it runs no hook and asks no server. Nor is it a program of the folder itself,
    which Windows would run first, and other systems where PATH has relative places.
    """
    places = (place for place in os.get_exec_path() if os.path.isabs(place))
    # Asked about one file, ``which`` does not look in the current folder first.
    git = next((found for place in places if (found := shutil.which(os.path.join(place, "git")))), None)
    if git is None:
        return None
    try:
        command = [git, "config", "--get", "remote.origin.url"]
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return repository_of(done.stdout.decode("utf-8", "replace")) if done.returncode == 0 else None
