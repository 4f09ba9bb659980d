"""What is enforced and what needs goodwill."""

from __future__ import annotations

import pytest

from sluicegate.policy.guarantees import guarantees
from sluicegate.policy.loader import load

HASHED = "{id: vk, value_hash: 'sha256:" + "0" * 64 + "'}"


@pytest.mark.parametrize(
    ("written", "exposed", "cooperative"),
    [
        (f"virtual_keys: [{HASHED}]\negress: {{default: deny}}", True, {"way"}),
        (f"virtual_keys: [{HASHED}]\negress: {{default: deny}}", False, {"way", "provider_keys"}),
        ("virtual_keys: [{id: vk-1}]", False, {"way", "provider_keys", "virtual_keys", "other_hosts"}),
        ("virtual_keys: [{id: vk-1}]", True, {"way", "other_hosts"}),
        ("virtual_keys: [{id: vk-1}]\nserver: {allow_id_as_value: true}", True, {"way", "other_hosts", "virtual_keys"}),
        ("virtual_keys: [{id: v, value: x, trust_user_header: true}]\negress: {default: deny}", True, {"way", "users"}),
        (f"virtual_keys: [{HASHED}]\ntrust_project_header: known\negress: {{default: deny}}", True, {"way", "users"}),
        ("audit: best_effort\negress: {default: deny}", True, {"way", "records"}),
        ("unpriced: fallback\nfallback_price: {input: 1, output: 1}\negress: {default: deny}", True, {"way", "prices"}),
    ],
)
def test_what_needs_goodwill(tmp_path, written, exposed, cooperative):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\n" + written)
    found = guarantees(load(file, env={}, now=0), exposed)
    assert {f.what for f in found if f.how == "cooperative"} == cooperative
    assert len({f.what for f in found}) == len(found) == 8
    assert all(f.why for f in found)


def test_no_more_names_than_can_be_read(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nvirtual_keys: [" + ",".join(f"{{id: vk-{i}}}" for i in range(50)) + "]")
    (keys,) = (f for f in guarantees(load(file, env={}, now=0), False) if f.what == "virtual_keys")
    assert "the demo keys vk-0, vk-1, vk-2, vk-3, vk-4 and 45 more" in keys.why
