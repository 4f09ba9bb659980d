"""The build hook that lays out the wheel: the core as ``sluicegate``; the addons, policies and deployment files inside it."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DEPLOYED = ("policy.yaml", "systemd", "docker", "compose", "helm", "nginx", "caddy", "haproxy")
"""What ``sluicegate deploy`` writes."""


class Layout(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the core and the policies to a wheel that has the addons."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them by folder, but not to an editable install, where a copy would hide the checkout."""
        if version == "standard":
            build_data["force_include"] |= {"addons/sluicegate": "sluicegate", "policies": "sluicegate/policies"}
            build_data["force_include"] |= {f"deploy/{name}": f"sluicegate/deploy/{name}" for name in DEPLOYED}
            build_data["force_include"]["constraints-run.txt"] = "sluicegate/deploy/constraints-run.txt"
