"""``python -m sluicegate.cli``: the same as the console script."""

from sluicegate.cli.main import main

main()
