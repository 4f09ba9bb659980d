"""The policy: its file format, the frozen model calls are judged by, reload, history and secrets."""
