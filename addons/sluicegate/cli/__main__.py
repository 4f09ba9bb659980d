"""``python -m sluicegate.cli``: the same as the console script."""

from sluicegate.cli.entry import main

main()
