"""Round trips: what a dialect can say comes back from it, and from any other that can say it too."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.translation.conversation import (
    DIALECTS,
    Document,
    Image,
    Message,
    Opaque,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from sluicegate.translation.names import ToolName, ToolNames
from sluicegate.translation.requests.pairing import arrange
from sluicegate.translation.requests.translate import path_of, read, write
from support.hypothesis_profiles import examples
from support.translations import MODELS, PATHS

WORDS = st.text('abcé \n<"\\{}', min_size=1, max_size=12).filter(lambda text: text.strip())
TEXTS = st.builds(Text, WORDS)
IMAGES = st.builds(Image, st.just("base64"), st.sampled_from(("AAAA", "iVBORw==")), st.sampled_from(("image/png", "image/jpeg")))
PDFS = st.builds(Document, st.just("base64"), st.just("JVBERg=="), st.just("application/pdf"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e6, 1e6, allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(WORDS, VALUES, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
)
TOOLS = (
    Tool("read", "Read a file.", {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}),
    Tool("now", "", {"type": "object", "properties": {}}),
)


@st.composite
def turns(draw, media):
    """A turn of the user, then one of the model, with calls and results in any order now and then."""
    user = draw(st.lists(st.one_of(TEXTS, *media), min_size=1, max_size=2))
    said = draw(st.lists(TEXTS, max_size=1))
    numbers = draw(st.lists(st.integers(0, 10**6), max_size=3, unique=True))
    calls = [ToolCall(f"call_{n}", draw(st.sampled_from(TOOLS)).name, draw(ARGUMENTS)) for n in numbers]
    results = [ToolResult(call.id, tuple(draw(st.lists(TEXTS, max_size=1))), name=call.name) for call in calls]
    found = [Message("user", tuple(user))]
    if said or calls:
        found.append(Message("assistant", (*said, *calls)))
    if results:
        found.append(Message("user", tuple(results)))
    return found


@st.composite
def requests(draw, media=(IMAGES, PDFS)):
    """A call of a model in neutral words, of what all four dialects can say; its conversation is in order."""
    system = [Message("system", (draw(TEXTS),))] if draw(st.booleans()) else []
    messages = [message for turn in draw(st.lists(turns(media), min_size=1, max_size=3)) for message in turn]
    choice = draw(st.sampled_from((ToolChoice(), ToolChoice("none"), ToolChoice("required"), ToolChoice("tool", "read"))))
    return Request(
        "m",
        arrange([*system, *messages, Message("user", (draw(TEXTS),))]),
        TOOLS,
        choice,
        max_tokens=draw(st.integers(16, 4096)),
        stream=draw(st.booleans()),
    )


def through(request, dialect, model=None):
    """Return a request as it is read back from the body of one dialect."""
    names = ToolNames(dialect)
    for tool in request.tools:
        names.declare(ToolName(tool.name))
    model = model or MODELS[dialect]
    body = json.loads(json.dumps(write(replace(request, model=model), dialect, names)))
    found, _ = read(body, path_of(dialect, model, request.stream), dialect)
    return replace(found, messages=arrange(found.messages))


def meaning(request):
    """What a request says, whichever dialect it came from: texts of one message together, arguments as values, ids by place."""
    order: dict[str, int] = {}
    conversation = []
    for message in request.messages:
        for part in message.parts:
            said = conversation[-1] if conversation and conversation[-1][0] == message.role else None
            if said is None:
                conversation.append(said := (message.role, []))
            match part:
                case Text(text) if said[1] and said[1][-1][0] == "text":
                    said[1][-1] = ("text", f"{said[1][-1][1]}\n\n{text}")
                case Text(text):
                    said[1].append(("text", text))
                case ToolCall():
                    said[1].append(("call", order.setdefault(part.id, len(order)), part.name, json.loads(part.arguments)))
                case ToolResult():
                    said[1].append(
                        ("result", order[part.call_id], part.name, "\n\n".join(p.text for p in part.parts), part.is_error)
                    )
                case Image() | Document():
                    said[1].append((type(part).__name__, part.source, part.media_type, part.data))
    tools = [(tool.name, tool.description, dict(tool.schema).get("required")) for tool in request.tools]
    choice = (request.tool_choice.mode, request.tool_choice.name)
    return conversation, tools, choice, request.max_tokens, request.stream


@settings(max_examples=examples(20))
@given(dialect=st.sampled_from(DIALECTS), request=requests())
def test_what_a_dialect_is_told_is_read_back_from_it(dialect, request):
    assert meaning(through(request, dialect)) == meaning(request)


@settings(max_examples=examples(20))
@given(dialects=st.permutations(DIALECTS), request=requests())
def test_what_both_can_say_survives_another_dialect(dialects, request):
    dialect, other, *_ = dialects
    there = through(request, dialect)
    back = through(through(there, other), dialect)
    assert meaning(back) == meaning(there) == meaning(request)


@settings(max_examples=examples(20))
@given(dialect=st.sampled_from(DIALECTS), request=requests())
def test_a_body_is_the_same_each_time_and_grows_at_its_end(dialect, request):
    """A conversation that goes on begins with the same bytes, or no prompt cache would hit."""
    field = {"responses": "input", "generate_content": "contents"}.get(dialect, "messages")
    request = replace(request, model=MODELS[dialect], tools=())
    whole = json.dumps(write(request, dialect, ToolNames(dialect)))
    assert whole == json.dumps(write(request, dialect, ToolNames(dialect)))
    for i, message in enumerate(request.messages):
        if message.role == "assistant":
            begin = write(replace(request, messages=request.messages[:i]), dialect, ToolNames(dialect))[field]
            assert json.loads(whole)[field][: len(begin)] == begin


@settings(max_examples=examples(20))
@given(dialect=st.sampled_from(("messages", "generate_content")), request=requests(media=()))
def test_a_failed_tool_is_read_back_where_the_dialect_has_a_field_for_it(dialect, request):
    failed = [
        Message(m.role, tuple(replace(p, is_error=True) if isinstance(p, ToolResult) else p for p in m.parts))
        for m in request.messages
    ]
    request = replace(request, messages=tuple(failed))
    assert meaning(through(request, dialect)) == meaning(request)


@settings(max_examples=examples(20))
@given(
    origin=st.sampled_from(("messages", "responses", "generate_content")),
    thought=WORDS,
    data=st.text("abcABC012", min_size=4, max_size=12),
)
def test_opaque_thinking_goes_back_to_its_origin_alone(origin, thought, data):
    opaque = Opaque(origin, data, text=thought)
    parts = (Thinking(thought, opaque), Text("Hello."), ToolCall("c", "read", "{}"))
    asked, answered = Message("user", (Text("hi"),)), Message("user", (ToolResult("c", (Text("A"),), name="read"),))
    request = Request("m", (asked, Message("assistant", parts), answered), TOOLS)
    for dialect in DIALECTS:
        names = ToolNames(dialect)
        text = json.dumps(write(replace(request, model=MODELS[dialect]), dialect, names))
        assert (json.dumps(data) in text) == (dialect == origin)
        if dialect == "messages" == origin:
            assert text.index(json.dumps(data)) < text.index("Hello.")


def test_the_paths_of_the_corpus_are_those_that_are_written():
    for dialect in DIALECTS:
        assert path_of(dialect, MODELS[dialect], False) == PATHS[dialect]
