"""The console script. The status line is printed without importing the other commands: agents draw it at each prompt."""

from __future__ import annotations

import os
import sys

from sluicegate.cli.streams import replace_unprintable, reporting_full_disk

STATUS_LINES = {("statusline",): "text", ("statusline", "--format", "json"): "json"}
"""The arguments with which agents run it, and the format they ask for. With any others it is a command like all the others."""


def main() -> None:
    """Run the console script."""
    replace_unprintable()
    with reporting_full_disk():
        form = STATUS_LINES.get(tuple(sys.argv[1:]))
        if form is not None:
            from sluicegate.cli import statusline_output, statusline_text

            statusline_output.show(*statusline_text.gateway_and_key(os.environ), form=form)
        else:
            from sluicegate.cli.main import main as run_command

            run_command()
