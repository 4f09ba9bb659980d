"""Which requests may travel on each provider's key, as dated data: exact methods and path templates, and what never may.

As of 2026-11-26. Sources: the providers' API references and the requests that their clients make, which are anthropic 2.14.0,
openai 3.57.0, google-genai 3.6.1, Claude Code 2.1.332, Codex 0.171, Gemini CLI 0.61, Qwen Code 0.24 and opencode 1.18.
"""

from __future__ import annotations

from sluicegate.providers.endpoints import Endpoints

_MODELS = r"/v1/models(/[^/:]*)?$"
"""Paths of models where a path does not say by a method after a colon that it is Google's."""

ANTHROPIC = Endpoints(
    metered=("POST /v1/messages",),
    free_with_model=("POST /v1/messages/count_tokens",),
    free=(
        "GET /v1/models",
        "GET /v1/models/{model}",
        # Claude Code with an API key: its settings, feature flags, models, telemetry and feedback.
        "GET /api/claude_cli/bootstrap",
        "GET /api/claude_cli_profile",
        "POST /api/claude_cli_feedback",
        "GET /api/claude_code/organizations/metrics_enabled",
        "GET /api/claude_code/policy_limits",
        "GET /api/claude_code/settings",
        "POST /api/claude_code/metrics",
        "GET /api/claude_code_penguin_mode",
        "POST /api/eval/{client_key}",
        "POST /api/event_logging/v2/batch",
        "GET /api/model_selector/{surface}",
    ),
    without_key=(
        "GET /api/directory/plugins",
        "GET /api/directory/server-urls",
        "GET /api/directory/servers",
        "GET /api/hello",
        "HEAD /api/hello",
        "GET /api/web/domain_info",
        "GET /mcp-registry/v0/servers",
    ),
    with_login=(
        # Claude Code with a subscription: whose it is, what is left of it, and the person's settings. Read on the wire or asked
        # for by its pages; what makes keys, and the organization's administration, is not here.
        "GET /api/claude_code_grove",
        "GET /api/oauth/account/settings",
        "GET /api/oauth/claude_cli/roles",
        "GET /api/oauth/profile",
        "GET /api/oauth/usage",
        "GET /api/organization/claude_code_first_token_date",
        "POST /api/oauth/account/grove_notice_viewed",
    ),
    own=(
        r"/v1/(messages|complete|agents|sessions|deployments|dreams|environments|memory_stores|vaults|user_profiles|tunnels"
        r"|organizations|experimental|code|mcp_servers|design|filestore)(/|$)",
        r"/v1/(files|skills)(/|$)",
        _MODELS,
        r"/api/(claude_|eval|event_logging/|directory/|web/|hello$|model_selector/|oauth/|organizations?/|frame/)",
        r"/mcp-registry/",
    ),
)

OPENAI = Endpoints(
    metered=(
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/embeddings",
        "POST /v1/responses",
        "POST /v1/responses/compact",
    ),
    free_with_model=("POST /v1/responses/input_tokens",),
    free=("GET /v1/models", "GET /v1/models/{model}"),
    own=(
        r"/v1/(chat|completions|embeddings|responses|conversations|images|audio|moderations|videos|batches|uploads|realtime"
        r"|assistants|threads|vector_stores|containers|evals|fine_tuning|organization|chatkit|edits|engines|alpha)(/|$)",
        r"/v1/(files|skills)(/|$)",
        _MODELS,
    ),
)

_VERSIONS = ("v1", "v1alpha", "v1beta")
_NAMES = ("{model}", "{provider}/{model}", "{provider}/{maker}/{model}")
"""How a path names a model: with a provider in front it never goes to Google, but to that provider."""


def _with_model(*methods: str) -> tuple[str, ...]:
    return tuple(f"POST /{version}/models/{name}:{method}" for name in _NAMES for version in _VERSIONS for method in methods)


GEMINI = Endpoints(
    metered=_with_model("generateContent", "streamGenerateContent", "embedContent"),
    free_with_model=_with_model("countTokens"),
    free=tuple(f"GET /{version}/models{one}" for version in _VERSIONS for one in ("", "/{model}")),
    own=(
        r"/(upload/|download/)?(v1alpha|v1beta[0-9]?)(/|$)",
        r"/v1/models$",
        r"/v1/(models/[^:]*:|tunedModels|cachedContents|fileSearchStores|interactions|operations)",
    ),
)

_VERTEX_VERSIONS = ("v1", "v1beta1")

VERTEX = Endpoints(
    metered=tuple(
        f"POST /{version}/publishers/{publisher}/models/{{model}}:{method}"
        for version in _VERTEX_VERSIONS
        for publisher, method in (
            ("anthropic", "rawPredict"),
            ("anthropic", "streamRawPredict"),
            ("google", "generateContent"),
            ("google", "streamGenerateContent"),
        )
    ),
    free_with_model=tuple(
        f"POST /{version}/publishers/{model}"
        for version in _VERTEX_VERSIONS
        for model in ("anthropic/models/count-tokens:rawPredict", "google/models/{model}:countTokens")
    ),
    free=(),
    own=(r"/(v1|v1beta1)/(projects|publishers)(/|$)",),
)
"""Without project and location: those are the policy's."""

BEDROCK = Endpoints(
    metered=("POST /model/{model_id}/invoke", "POST /model/{model_id}/invoke-with-response-stream"),
    free_with_model=("POST /model/{model_id}/count-tokens",),
    free=(),
    own=(r"/(model|inference-profiles|async-invoke|guardrail)(/|$)",),
)
