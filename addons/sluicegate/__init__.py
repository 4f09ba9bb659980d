"""The core of sluicegate: what a call is, what it may cost and what became of it. Never imports mitmproxy."""

__version__ = "0.1.0"
