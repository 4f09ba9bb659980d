"""Nothing a client has sent is printed."""

from __future__ import annotations

import pytest

from runtime.console.log_redaction import without_bytes


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Client closed connection before completing request headers: b'x-api-key: sk-1\\r\\n'", "<bytes, not shown>"),
        ("""Unexpected data from server: b"it's sk-1" """, "<bytes, not shown>"),
        (r"broken: b'a \' sk-1' and b'sk-2'", "broken: <bytes, not shown>"),
        ("client connect", "client connect"),
        ("grab 'a' and b", "grab 'a' and b"),
    ],
)
def test_bytes_in_a_line_of_the_log_are_not_shown(line, shown):
    assert "sk-" not in without_bytes(line)
    assert without_bytes(line).rstrip().endswith(shown)
