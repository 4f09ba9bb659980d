"""The core of sluicegate: what a call is, what it may cost and how it ended. Never imports mitmproxy."""

__version__ = "0.1.0"
