"""The keys of Amazon Bedrock in a policy: the AWS account of each, and the region that they share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from sluicegate.policy.key_schema import BedrockKeyConfig
from sluicegate.policy.provider import SEPARATOR
from sluicegate.policy.secrets import ENV, is_reference, resolve, variable_of
from sluicegate.providers.signing.aws import MACHINE, AccessKey, AwsAccount

DEFAULT_REGION = "us-east-1"
"""That of AWS's own tools, and of Claude Code, where nothing names one."""

_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


def region_of(config: BedrockKeyConfig | None, env: Mapping[str, str]) -> str:
    """Return the AWS region that a key's config names, else the environment's, else AWS's default."""
    written = config.region if config is not None else None
    named = resolve(written, env, sources=(ENV,)).value if written is not None else None
    return named or next((env[v] for v in _REGION_VARIABLES if env.get(v)), DEFAULT_REGION)


def is_region(name: str) -> bool:
    """Return whether a name may be an AWS region's: it becomes a part of a host's name."""
    return re.fullmatch(r"[a-z]{2}(?:-[a-z]+){1,3}-\d{1,2}", name) is not None


def runtime_url(region: str) -> str:
    """Return where Bedrock's models are called in a region."""
    return f"https://bedrock-runtime.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def source_of(config: BedrockKeyConfig) -> str:
    """Return where an account's credentials come from, without showing any."""
    written = [x for x in (config.access_key, config.secret_key, config.session_token) if x is not None]
    return SEPARATOR.join(x if is_reference(x) else "literal" for x in written) or MACHINE


def aws_account(config: BedrockKeyConfig, fetch: Callable[[str], str | None], env: Mapping[str, str]) -> AwsAccount | None:
    """Return the account that signs for a key; None where its access key cannot be used. ``fetch`` returns a secret."""
    region = region_of(config, env)
    if config.access_key is None or config.secret_key is None:
        return AwsAccount(region)
    # The id of an access key is not a secret, so it may stand in the policy.
    key_id = fetch(config.access_key) if is_reference(config.access_key) else config.access_key
    secret = fetch(config.secret_key)
    token = fetch(config.session_token) if config.session_token is not None else None
    if key_id is None or secret is None or (config.session_token is not None and token is None):
        return None
    variables = map(variable_of, filter(None, (config.access_key, config.secret_key, config.session_token)))
    return AwsAccount(region, AccessKey(key_id, secret, token), source_of(config), tuple(filter(None, variables)))
