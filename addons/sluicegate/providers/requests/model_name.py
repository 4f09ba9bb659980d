"""The grammar of a model's name: what a call may name, so that no server reads another model in it than was judged.

Names travel on in bodies, paths and logs. Lists are judged by globs, and ``claude-*`` would match a name that climbs out of its
folder, ends at a space or is decoded once more. Names as the vendors write them fit: ``accounts/x/models/y``, ``qwen3:8b``,
``claude-opus-5[1m]``, ``@cf/meta/llama``, ``anthropic.claude-v2:1``, ``ft:gpt-4o:org::id``, ``~anthropic/claude-latest``.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_MODEL_NAME_CHARS = 200
"""Characters in a model's name; the resource names of Amazon Bedrock are the longest, with some 130."""

MODEL_NAME_RULE = (
    "a model's name has letters, digits, '-', '_', '.', ':', '@', '+' and '~', with single slashes between its parts "
    f"and never '..', in at most {MAX_MODEL_NAME_CHARS} characters; a suffix such as '[1m]' may follow"
)
"""What to mend in a name that is refused."""

_PART = r"[A-Za-z0-9@_~][A-Za-z0-9._:@+~-]*"
_NAME = re.compile(rf"(?!.*\.\.){_PART}(?:/{_PART})*(?:\[[A-Za-z0-9]{{1,8}}\])?")


def is_model_name(value: object) -> bool:
    """Return whether a value is a model's name that everyone reads alike."""
    return isinstance(value, str) and len(value) <= MAX_MODEL_NAME_CHARS and _is_name(value)


@lru_cache(maxsize=1024)
def _is_name(value: str) -> bool:
    return _NAME.fullmatch(value) is not None
