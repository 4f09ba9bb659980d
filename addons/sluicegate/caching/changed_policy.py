"""What a policy that changed while a call waited for another's answer means for it: nothing of it has been sent or given yet."""

from __future__ import annotations

from sluicegate.caching.meaning import scope_of
from sluicegate.calls.admission import check_access
from sluicegate.calls.call import Call
from sluicegate.policy.cache_schema import CacheScope
from sluicegate.policy.model import Policy
from sluicegate.values import Deny, Principal, Reason


def refusal_by(policy: Policy, call: Call, now: int) -> Deny | None:
    """Return why a call that was admitted by another policy is refused by this one; None if nothing is against it."""
    principal = _principal_by(policy, call)
    if call.principal is None or call.facts is None:
        return None
    id_ = call.principal.virtual_key_id
    if principal is None:
        return Deny(Reason.VIRTUAL_KEY_NOT_FOUND, f"Virtual key '{id_}' is no longer in the policy", scope=id_)
    why = policy.virtual_keys[id_].refusal(now) or policy.user_refusal(principal)
    if why is not None:
        return Deny(Reason.VIRTUAL_KEY_BLOCKED, why, scope=id_)
    if call.provider not in policy.providers:
        return Deny(Reason.PROVIDER_BLOCKED, f"Provider '{call.provider}' is no longer in the policy", scope=id_)
    models = call.facts.named_models or (None,)
    return next((refusal for model in models if (refusal := check_access(policy, principal, call.provider, model))), None)


def shares_by(policy: Policy, scope: CacheScope, call: Call, asked_by: CacheScope) -> bool:
    """Return whether a caller shares answers with the same others by a policy with this scope as by the one it has asked by."""
    principal = _principal_by(policy, call)
    return call.principal is not None and principal is not None and scope_of(principal, scope) == scope_of(call.principal, asked_by)


def _principal_by(policy: Policy, call: Call) -> Principal | None:
    key = policy.virtual_keys.get(call.principal.virtual_key_id) if call.principal is not None else None
    return None if key is None else policy.principal_of(key, call.attribution.get("user_id"), call.attribution.get("project"))
