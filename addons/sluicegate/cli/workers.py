"""``sluicegate serve --workers N``: the supervisor's process."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sluicegate.cli.options import Settings
from sluicegate.cli.output import fail
from sluicegate.paths import own_command

MAX_WORKERS = 64


def supervise(count: int, arguments: Sequence[str], settings: Settings, log_format: str | None) -> int:
    """Run so many workers until a signal stops them; return the exit code."""
    from sluicegate.console.lines import FormatError, chosen_format
    from sluicegate.operations.deployment.service_manager import notify
    from sluicegate.storage.state_folder import StateError, token_of
    from sluicegate.workers.supervisor import Supervisor

    named = [argument.partition("=")[2] for argument in arguments if argument.startswith("state_dir=")]
    state_dir = Path(named[-1] if named else settings.state_path()).expanduser().absolute()
    # The service manager is told by its own child, and by nobody else.
    env = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    command = [*own_command(), "serve", *arguments]
    command += [] if named else ["--state-dir", str(state_dir)]

    def ready(workers: int) -> None:
        lines.print_line(logging.INFO, f"{workers} workers serve")
        try:
            notify(os.environ)
        except OSError as e:
            lines.print_line(logging.ERROR, f"the service manager's socket NOTIFY_SOCKET cannot be reached: {e.strerror}")

    async def run(has_new_token: bool) -> int:
        return await Supervisor(command, count, state_dir, env, ready, has_new_token=has_new_token).run()

    try:
        lines = _Lines(is_json=chosen_format(log_format or "", os.environ) == "json")
        has_new_token = token_of(os.environ) is None and not (state_dir / "admin-token").exists()
        with _held(state_dir):
            return asyncio.run(run(has_new_token))
    except (FormatError, StateError) as e:
        fail(str(e))


@contextmanager
def _held(state_dir: Path) -> Iterator[None]:
    """Hold the state folder, without what an earlier run has left of its own time. Raises StateError."""
    from sluicegate.storage.state_folder import StateFolder, make_folder
    from sluicegate.workers.clears import FILENAME as CLEARS
    from sluicegate.workers.sign_in import sign_in_files
    from sluicegate.workers.worker import FOLDER, metrics_memory

    folder = StateFolder(state_dir)
    try:
        make_folder(state_dir / FOLDER)
        for file in (*sign_in_files(state_dir), *metrics_memory(state_dir), state_dir / FOLDER / CLEARS):
            file.unlink(missing_ok=True)
        yield
    finally:
        folder.close()


class _Lines(logging.Handler):
    """Prints what the supervisor says, as its workers print theirs."""

    def __init__(self, *, is_json: bool) -> None:
        super().__init__(logging.WARNING)
        self._is_json = is_json
        logger = logging.getLogger("sluicegate")
        logger.addHandler(self)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        self.print_line(record.levelno, record.getMessage())

    def print_line(self, level: int, text: str) -> None:
        """Print a line."""
        from sluicegate.console.lines import message_as_json

        if self._is_json:
            text = message_as_json(time.time_ns() // 1_000_000, level, text)
        elif level > logging.INFO:
            text = f"sluicegate: {text}"
        print(text, file=sys.stderr if level > logging.INFO else sys.stdout, flush=True)
