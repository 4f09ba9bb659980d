"""What a Gemini body may hold: parts that are known to be text, and parts that are read in one pass.

Google reads each name in two spellings, ``systemInstruction`` and ``system_instruction``, so both are listed. Whatever is not
listed is dear until it is known. Source: the types of google-genai 3.6.1 (2026-11), the JSON rules of protocol buffers,
and bodies of Gemini CLI 0.61.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sluicegate.providers.requests.parts import ABSENT, Json


def snake_case(name: str) -> str:
    """Return the other spelling of a field's name: ``topP`` is ``top_p``."""
    return re.sub(r"[A-Z]", lambda m: "_" + m[0].lower(), name)


def _object(name: str, opaque: str = "", **typed: Any) -> type[msgspec.Struct]:
    """Return the type of an object that may hold nothing but these fields: ``opaque`` ones of any value, and typed ones."""
    types = dict.fromkeys(opaque.split(), Json) | typed
    spellings = {spelling: kind for field, kind in types.items() for spelling in (field, snake_case(field))}
    fields = [(n, k, ABSENT) if k is Json else (n, k | None, None) for n, k in spellings.items()]
    return msgspec.defstruct(name, fields, forbid_unknown_fields=True, gc=False)


_FunctionResponse = _object("FunctionResponse", "id name response willContinue scheduling")
_TEXT_FIELDS = "text thought thoughtSignature functionCall executableCode codeExecutionResult partMetadata"
_TextPart: Any = _object("TextPart", _TEXT_FIELDS, functionResponse=_FunctionResponse)
_OnePassPart = _object(
    "OnePassPart",
    _TEXT_FIELDS + " functionResponse inlineData fileData videoMetadata mediaResolution",
)
_SAMPLING = (
    "candidateCount maxOutputTokens thinkingConfig temperature topP topK stopSequences seed presencePenalty frequencyPenalty"
    " responseLogprobs logprobs responseMimeType responseSchema responseJsonSchema mediaResolution"
)
_Config = _object("GenerationConfig", _SAMPLING)
_ClientTool: Any = _object("ClientTool", "functionDeclarations")
_ToolConfig = _object("ToolConfig", "functionCallingConfig retrievalConfig")
_SETTINGS = "model safetySettings labels serviceTier store"


def _body(name: str, part: Any, tools: Any, config: Any) -> msgspec.json.Decoder[Any]:
    content: Any = _object(f"{name}Content", "role", parts=list[part])
    fields = {"tools": tools, "generationConfig": config, "toolConfig": _ToolConfig}
    return msgspec.json.Decoder(_object(name, _SETTINGS, contents=list[content], systemInstruction=content, **fields))


TEXT = _body("TextBody", _TextPart, list[_ClientTool], _Config)
ONE_PASS = _body("OnePassBody", _OnePassPart, list[dict[str, Any]], dict[str, Any])
EMBED_TEXT = msgspec.json.Decoder(
    _object(
        "EmbedBody",
        "model taskType title outputDimensionality",
        content=_object("EmbedContent", "role", parts=list[_TextPart]),
    )
)
