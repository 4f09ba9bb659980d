"""Whether a policy may be changed here: never inside the installed package, and not over HTTP where it is managed in git."""

from __future__ import annotations

from sluicegate.policy.watcher import PolicyWatcher


def why_read_only(watcher: PolicyWatcher, *, over_http: bool) -> str | None:
    """Return why the policy may not be changed and what to do instead; None where it may.

    Over HTTP come the REST API and the dashboard; the command line changes the files themselves, as an editor does.
    """
    if why := watcher.source.why_read_only():
        return why
    if over_http and watcher.current.file.policy.managed_by == "git":
        return (
            f"the policy {watcher.path} is managed in git (policy.managed_by): change it in its repository, from where it is "
            "deployed; here it can only be read"
        )
    return None


def is_writable(watcher: PolicyWatcher) -> bool:
    """Return whether the API may change the policy, and the process what it is kept in."""
    return why_read_only(watcher, over_http=True) is None and watcher.source.is_writable()
