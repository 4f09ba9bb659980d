"""Server tools: what a tool that runs at the provider can add to a call in the worst case, as dated data.

A model that uses such a tool reads its whole context again after each round, inside one call. Figures are the providers'
documented limits as of 2026-11-26; where no limit is documented, one is assumed and says so.

Sources: platform.claude.com (server tools: the sampling loop stops after 10 iterations; advisor tool; context editing),
platform.openai.com (``max_tool_calls``; built-in tools), ai.google.dev (code execution; grounding), and the parameter
types of anthropic 2.14.0, openai 3.57.0 and google-genai 3.6.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sluicegate.providers.requests.body import Members, Problems
from sluicegate.providers.requests.model_name import MODEL_NAME_RULE, is_model_name
from sluicegate.values import Extent

ANTHROPIC_LOOP_PASSES = 11
"""Ten documented iterations of the sampling loop, and the answer that follows the last result."""

OPENAI_LOOP_PASSES = 128
"""Assumed: without ``max_tool_calls`` no limit is documented."""

GEMINI_LOOP_PASSES = 11
"""Assumed; five rounds of code execution are documented."""

SEARCHES_PER_PASS = 10
"""Assumed: parallel uses of one tool in one round of a loop."""

MAX_MODELS = 64
"""Models that a body may name; each of them is judged and priced."""

MAX_SERVER_FALLBACKS = 3
"""Attempts after the first where the provider chooses the models that take over."""

PROVIDER_PROMPT_TOKENS = 4096
"""Tokens allowed for a client tool that the provider describes to the model itself; the documented ones have 245 to 1,300."""


CLIENT_TOOL_TEXTS = frozenset(
    {"name", "description", "input_schema", "input_examples", "parameters", "function", "custom"}
    | {"functionDeclarations", "function_declarations"}
)
"""Fields of a client tool that are text to the model. What looks like the name of a model in them is an argument's."""


class ServerTool(NamedTuple):
    """What one kind of server tool can add to a call."""

    loops: bool = True
    """Whether its results go back to the model inside the call."""
    web_searches: bool = False
    file_searches: bool = False
    code_sessions: bool = False
    unbounded: str = ""
    """What it costs beyond tokens and known fees, in words."""


UNKNOWN_TOOL = ServerTool(web_searches=True, file_searches=True, code_sessions=True)
"""A tool of a kind that no table lists may do whatever any of them does."""


class ExtentBuilder:
    """Adds up how far a call may go while its body is read."""

    def __init__(self, loop_passes: int) -> None:
        self.loop_passes = loop_passes
        """Passes of a call in which a server tool loops."""
        self.loops = False
        self.more_passes = 0
        """Passes besides the loop's own, such as an advisor's."""
        self.compacts = False
        self.attempts = 1
        """Times the whole call may be tried, each by another model."""
        self.prompt_tokens = 0
        self.web_searches = self.file_searches = self.code_sessions = 0
        self.unbounded = ""
        self.models: list[str] = []
        self.outputs: list[int] = []
        """Limits of what one pass may write, besides the body's own."""
        self.may_be_fast = False
        self.writes_freely = False
        """Whether some pass has no limit but its model's own."""

    def add_tool(self, tool: Members, kind: ServerTool, most_uses: int | None) -> None:
        """Add a server tool that may be used ``most_uses`` times; None where only the loop bounds it."""
        uses = self.loop_passes * SEARCHES_PER_PASS if most_uses is None else most_uses
        self.loops = self.loops or kind.loops
        self.web_searches += uses if kind.web_searches else 0
        self.file_searches += uses if kind.file_searches else 0
        self.code_sessions += uses if kind.code_sessions else 0
        self.unbounded = self.unbounded or kind.unbounded
        # A tool may name a model at any depth, and each may do a part of the work.
        self.name_models(tool.models(()), tool.problems)

    def add_client_tool(self, tool: Members) -> None:
        """Add a tool that the client runs, which the provider may describe to the model."""
        self.prompt_tokens += PROVIDER_PROMPT_TOKENS
        self.name_models(tool.models(CLIENT_TOOL_TEXTS), tool.problems)

    def add_unknown(self) -> None:
        """Add something that no table lists, which may be any server tool."""
        self.add_tool(Members({}, Problems()), UNKNOWN_TOOL, None)

    def add_output(self, limit: int | None) -> None:
        """Add a limit of what one pass may write, if there is one."""
        if limit is not None:
            self.outputs.append(limit)

    def name_models(self, names: Iterable[str], problems: Problems) -> None:
        """Add models that the body names; a name that policy cannot judge is a problem."""
        for name in names:
            if not is_model_name(name):
                problems.append(f"a model that a part of the body names cannot be judged: {MODEL_NAME_RULE}")
            elif name not in self.models:
                self.models.append(name)
            if len(self.models) > MAX_MODELS:
                problems.append(f"the body names more than {MAX_MODELS} models")
                return

    def extent(self, max_tokens: int | None, candidates: int = 1, prompts: int = 1) -> Extent:
        """Return the whole; ``max_tokens`` is the body's limit of the answer."""
        passes = self.loop_passes if self.loops else 1
        # The context may be summarised before each pass, which reads all of it and writes the summary.
        passes = passes * (2 if self.compacts else 1) + self.more_passes
        return Extent(
            passes=passes * self.attempts,
            output_tokens=None if max_tokens is None or self.writes_freely else max(max_tokens, *self.outputs, 0),
            candidates=candidates,
            prompts=prompts,
            prompt_tokens=self.prompt_tokens,
            web_searches=self.web_searches * self.attempts,
            file_searches=self.file_searches * self.attempts,
            code_sessions=self.code_sessions * self.attempts,
            may_be_fast=self.may_be_fast,
            unbounded=self.unbounded,
        )
