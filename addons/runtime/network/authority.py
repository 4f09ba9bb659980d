"""Authority: has mitmproxy sign by the gateway's own CA, which lies in the state folder and may be followed by another.

mitmproxy reads its CA from the folder of its option ``confdir`` whenever that is set, and before anything is served.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from mitmproxy import certs, ctx

from flow import Addon, services
from runtime.options import exit_with_error
from sluicegate import paths
from sluicegate.authority.certificate import fingerprint
from sluicegate.authority.folder import Authority as SigningAuthority
from sluicegate.authority.folder import AuthorityError, AuthorityFolder
from sluicegate.authority.watcher import AuthorityWatcher
from sluicegate.services import wall_clock

logger = logging.getLogger("sluicegate")

DH_PARAMETERS = "mitmproxy-dhparam.pem"
"""What mitmproxy would write beside the key, readable by all."""

_chosen: AuthorityFolder | None = None
"""Module-level, so that a reload of the chain keeps it: by then the option is ours."""


def choose(options: Any) -> dict[str, str]:
    """Return the option by which mitmproxy signs by our CA, which is made or taken over where there is none yet.

    A folder that the operator has named stays where it is.
    """
    global _chosen
    if _chosen is None:
        state_dir = paths.state_dir(options.state_dir, os.environ)
        is_named = options.confdir != options.default("confdir")
        _chosen = AuthorityFolder(Path(options.confdir).expanduser() if is_named else state_dir / paths.AUTHORITY)
        _chosen_from = () if is_named else (state_dir, Path(options.default("confdir")).expanduser())
        try:
            return {"confdir": prepared(_chosen.ensure(wall_clock(), _chosen_from))}
        except AuthorityError as e:
            exit_with_error(str(e))
    return {}


def prepared(authority: SigningAuthority) -> str:
    """Return an authority's folder with all that mitmproxy reads in it, so that it writes nothing there.

    Raises AuthorityError.
    """
    file = authority.folder / DH_PARAMETERS
    try:
        if not file.exists():
            file.touch(mode=0o600)
            file.write_bytes(certs.DEFAULT_DHPARAM)
    except OSError as e:
        message = f"{file} cannot be written: {e.strerror}; a folder that is read-only must have it, from `openssl dhparam 2048`"
        raise AuthorityError(message) from e
    return str(authority.folder)


class Authority(Addon):
    """Chooses the CA before mitmproxy makes one of its own, and follows a rotation while the gateway runs."""

    def __init__(self) -> None:
        self.watcher: AuthorityWatcher | None = None

    def configure(self, updated: set[str]) -> None:
        """Choose the CA as soon as this is loaded as a script; ``sluicegate serve`` does it where mitmproxy's file is read."""
        if updated >= set(ctx.options.keys()):
            ctx.options.update(**choose(ctx.options))

    def running(self) -> None:
        """Note where the CA is, and look for another from now on."""
        super().running()
        ctx.options.update(**choose(ctx.options))
        shared, folder = services(), _chosen
        assert folder is not None
        shared.authority_folder = folder.path
        shared.state_folder.note_authority(folder.path if folder.path != shared.state_dir / paths.AUTHORITY else None)
        loop = asyncio.get_running_loop()
        signing = folder.signing(shared.clock())
        if signing is not None:

            def follow(found: SigningAuthority) -> None:
                loop.call_soon_threadsafe(self.sign_by, found)

            self.watcher = AuthorityWatcher(folder, signing, shared.clock, follow)
            self.watcher.start()

    def sign_by(self, authority: SigningAuthority) -> None:
        """Have mitmproxy sign by another authority; connections that have begun keep their certificates."""
        try:
            ctx.options.update(confdir=prepared(authority))
            shown = fingerprint(authority.certificate())
        except (AuthorityError, OSError, ValueError) as e:
            logger.error("The CA in %s cannot sign; the one before goes on: %s", authority.folder, e)
            return
        logger.warning("Another CA signs from now on, %s, SHA-256 %s", authority.folder, shown)

    def done(self) -> None:
        """Stop looking."""
        if self.watcher is not None:
            self.watcher.stop()


addons = [Authority()]
