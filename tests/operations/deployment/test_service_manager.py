"""What the service manager is told, on sockets as it makes them."""

from __future__ import annotations

import socket

import pytest

from sluicegate.operations.deployment.service_manager import notify


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_manager_hears_that_the_gateway_serves(tmp_path, kind):
    address = str(tmp_path / "notify") if kind == "path" else f"@sluicegate-test-{tmp_path.name}-{id(tmp_path)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address if kind == "path" else "\0" + address[1:])
        notify({"NOTIFY_SOCKET": address})
        assert manager.recv(100) == b"READY=1"


def test_without_a_manager_nothing_is_sent_and_one_that_is_gone_is_an_error(tmp_path):
    notify({})
    notify({"NOTIFY_SOCKET": "vsock:2:1"})
    with pytest.raises(OSError, match="No such file"):
        notify({"NOTIFY_SOCKET": str(tmp_path / "gone")})
