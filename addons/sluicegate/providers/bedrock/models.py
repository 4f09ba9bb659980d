"""What models are called at Bedrock: ids and inference profiles by region, and the deployments that a policy names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from sluicegate.model_names import canonical, is_bedrock_id, matches, undated

IDS: Mapping[str, str] = {
    "claude-3-5-haiku": "anthropic.claude-3-5-haiku-20241022-v1:0",
    "claude-3-5-sonnet": "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "claude-3-7-sonnet": "anthropic.claude-3-7-sonnet-20250219-v1:0",
    "claude-haiku-4-5": "anthropic.claude-haiku-4-5-20251001-v1:0",
    "claude-opus-4": "anthropic.claude-opus-4-20250514-v1:0",
    "claude-opus-4-1": "anthropic.claude-opus-4-1-20250805-v1:0",
    "claude-opus-4-5": "anthropic.claude-opus-4-5-20251101-v1:0",
    "claude-opus-4-6": "anthropic.claude-opus-4-6-v1",
    "claude-sonnet-4": "anthropic.claude-sonnet-4-20250514-v1:0",
    "claude-sonnet-4-5": "anthropic.claude-sonnet-4-5-20250929-v1:0",
}
"""Ids of models that are more than the maker's name, by that name without its date.

As of 2026-11-27, from the table in Claude Code 2.1.332 and docs.aws.amazon.com/bedrock/latest/userguide/models-supported.html.
"""

_PROFILES: tuple[tuple[str, str], ...] = (
    ("us-gov-", "us-gov"),
    ("us-", "us"),
    ("eu-", "eu"),
    ("ap-northeast-1", "jp"),
    ("ap-northeast-3", "jp"),
    ("ap-southeast-2", "au"),
    ("ap-southeast-4", "au"),
    ("", "global"),
)
"""Which inference profile a region uses, by how its name begins: most models can be called by a profile alone."""

_IN_PATH = re.compile(r"(/model/)([^/?]+)(/)")


@dataclass(frozen=True, slots=True)
class BedrockIds:
    """The ids of one provider: its region's inference profiles, and the deployments that policy names instead."""

    region: str
    deployments: Mapping[str, str] = field(default_factory=dict)
    """Ids or ARNs by the names, or globs, of the models that they serve."""

    def id_of(self, model: str) -> str:
        """Return the id of a model that is named by its maker's name, by an id already, or as policy has deployed it.

        A deployment whose ARN does not say which model it is stays under the name that policy gives it, by which it is judged.
        """
        if is_bedrock_id(model) or model.startswith("arn:"):
            return model
        if (deployed := self._deployed(model)) is not None:
            return deployed if is_bedrock_id(deployed) else model
        name = undated(model)
        if not name.startswith("claude-"):
            return model
        profile = next(profile for prefix, profile in _PROFILES if self.region.startswith(prefix))
        return f"{profile}.{IDS.get(name, f'anthropic.{name}')}"

    def _deployed(self, model: str) -> str | None:
        return next((found for name, found in self.deployments.items() if matches(name, model)), None)

    def inner_path(self, path: str) -> str:
        """Return a client's path with the name that policy gives a deployment in place of an ARN that says nothing."""
        found = _IN_PATH.search(path)
        if found is None or not self.deployments:
            return path
        asked = unquote(found[2])
        name = next((n for n, deployed in self.deployments.items() if deployed == asked and not is_bedrock_id(deployed)), None)
        return path if name is None else _IN_PATH.sub(lambda m: f"{m[1]}{quote(name, safe=':')}{m[3]}", path, count=1)

    def outer_path(self, path: str) -> str:
        """Return a path with the ARN of a deployment that is judged by its name."""
        found = _IN_PATH.search(path)
        if found is None or not self.deployments:
            return path
        asked = unquote(found[2])
        deployed = None if is_bedrock_id(asked) or asked.startswith("arn:") else self._deployed(canonical(asked))
        return path if deployed is None else _IN_PATH.sub(lambda m: f"{m[1]}{quote(deployed, safe=':')}{m[3]}", path, count=1)


def with_model(path: str, model: str) -> str:
    """Return a path of Bedrock's with another model in it."""
    return _IN_PATH.sub(lambda m: f"{m[1]}{quote(model, safe=':')}{m[3]}", path, count=1)
