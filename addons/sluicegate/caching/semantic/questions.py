"""A question as the guard reads it: what may be said in other words, and what must be the same byte for byte.

Only the first line, and one that follows a closed fence at the end, may be worded differently, and only in the ways that
``vocabulary`` lists. All other lines are compared as they stand, as are lines that look like code, and quoted strings, numbers,
paths and identifiers in any line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sluicegate.caching.semantic.vocabulary import (
    ARTICLES,
    AS_WRITTEN,
    BEFORE_ARTICLES,
    BEFORE_QUESTIONS,
    CLOSINGS,
    CODE_FRAMES,
    CODE_MARKS,
    CODE_START,
    CONTRACTIONS,
    FILLERS,
    FIRST_TOPIC,
    FIRST_WORDS,
    FOLDED,
    FRAMES,
    INVARIABLE,
    LAST_TOPIC,
    NAMING,
    NO_NOUNS,
    OPENINGS,
    RESULTS,
    SHORT_FORMS,
    TOPICS,
    WITH_PLURALS,
)

_CHUNK = re.compile(r"`[^`]*`|\"[^\"]*\"|(?<![^ (])'[^']*'(?![A-Za-z0-9])|[^ ]+")
_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*")
_FENCE = re.compile(r"^(`{3,}|~{3,})[^`]*$")
_MAX_REMOVALS = 4
"""Most openings, and most closings, that are taken off one request."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word or a literal of a request."""

    text: str
    indefinite: bool = False
    """Whether ``a`` or ``an`` stands one or two words before it."""


@dataclass(frozen=True, slots=True)
class Question:
    """A message in the form in which two are compared."""

    request: tuple[Token, ...]
    verbatim: str
    closing: tuple[Token, ...]

    @property
    def text(self) -> str:
        """The words and the code as one text, to be embedded."""
        parts = (" ".join(t.text for t in self.request), self.verbatim, " ".join(t.text for t in self.closing))
        return "\n".join(part for part in parts if part)


def read(message: str) -> Question:
    """Return what a message asks, in the form in which two are compared."""
    lines = [line.rstrip(" \t") for line in message.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    if not lines:
        return Question((), "", ())
    first = lines.pop(0)
    if _FENCE.match(first) or first != first.lstrip():
        return Question((), "\n".join([first, *lines]), ())
    closing = lines.pop() if _closes(lines) else ""
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    return Question(_request(first, bool(lines)), "\n".join(lines), _request(closing, False) if closing else ())


def _closes(lines: list[str]) -> bool:
    """Return whether the last line stands by itself behind a fence that is closed."""
    if len(lines) < 2 or _FENCE.match(lines[-1]):
        return False
    fence, ends, was_closed = "", False, False
    for line in lines[:-1]:
        found = _FENCE.match(line)
        # What closes a fence is of the same kind, at least as long, and alone; anything else within it is code.
        ends = bool(fence) and found is not None and found[1] == line and line.startswith(fence)
        if ends:
            fence = ""
        elif not fence and found is not None:
            fence = found[1]
        elif not line and not fence:
            # An empty line changes nothing.
            ends = was_closed
        was_closed = ends
    return ends


def _request(line: str, has_code: bool) -> tuple[Token, ...]:
    if AS_WRITTEN.search(line):
        return (Token(line),)
    line = re.sub(r"(?<=[A-Za-z])’(?=[A-Za-z])", "'", line)
    for _ in range(_MAX_REMOVALS):
        line = OPENINGS.sub("", line, count=1) if OPENINGS.match(line) else line
        line = line if ": " in line else CLOSINGS.sub("", line)
    for pattern, words in CONTRACTIONS:
        line = pattern.sub(words, line)
    if has_code:
        for pattern, meaning in CODE_FRAMES:
            if pattern.match(line):
                return tuple(Token(word) for word in pattern.sub(meaning, line).casefold().split())
    line, topics = _without_topics(line)
    line, frame = _without_openings_of_questions(line)
    if CODE_START.match(line) or not CODE_MARKS.isdisjoint(line):
        return (*topics, *frame, Token(_as_it_stands(line)))
    head, colon, tail = line.partition(": ")
    # What follows a colon may be what the request is about.
    about = (Token(tail),) if colon else ()
    return (*topics, *frame, *_tokens(head + colon.rstrip(), starts=not frame), *about)


def _as_it_stands(line: str) -> str:
    """Return a line with code in it, without the mark at its end and a capital at its start that say nothing."""
    verb, space, rest = line.partition(" ")
    if CODE_MARKS.isdisjoint(line.rpartition(" ")[2]):
        # In the last piece of code, such a mark may be code too: ``^a?``.
        rest = re.sub(r"(?<=[\w)\]}\"'`])[?.]$", "", rest)
    return (verb.lower() if verb.lower() in FIRST_WORDS else verb) + space + rest


def _without_topics(line: str) -> tuple[str, tuple[Token, ...]]:
    """Return the line without a language or tool before or behind its question, and a token for it."""
    for pattern in (FIRST_TOPIC, LAST_TOPIC):
        found = pattern.search(line)
        if found is None:
            continue
        preposition, name, *bare = found.groups()
        name = (name or bare[0]).lower()
        if name in TOPICS and found[0].isascii():
            manner = (preposition or "in").lower().replace("on", "in")
            rest = line[: found.start()] + line[found.end() :]
            return rest, (Token(f"{manner} {SHORT_FORMS.get(name, name)}:"),)
    return line, ()


def _without_openings_of_questions(line: str) -> tuple[str, tuple[Token, ...]]:
    """Return the line without the turn of phrase it begins with, and a token for that."""
    line = OPENINGS.sub("", line, count=1) if OPENINGS.match(line) else line
    for pattern, meaning in FRAMES:
        found = pattern.match(line)
        if found is not None:
            framed = found.expand(meaning) + line[found.end() :]
            verb, _, rest = framed.partition(" ")
            return rest, (Token(verb.lower()),)
    return line, ()


def _tokens(line: str, *, starts: bool) -> list[Token]:
    chunks = _CHUNK.findall(line)
    is_naming = any(chunk.rstrip(".,;:?!").lower() in NAMING for chunk in chunks)
    found: list[Token] = []
    article_at = -9
    for at, chunk in enumerate(chunks):
        following = chunks[at + 1] if at + 1 < len(chunks) else ""
        is_unit = bool(found) and found[-1].text[-1:].isdigit()
        token = _bare(chunk, following)
        before = chunks[at - 1].lower() if at else "is"
        if _WORD.fullmatch(token) and not is_unit:
            asks = (starts and at == 0) or before in BEFORE_QUESTIONS
            token = _folded(token, first=starts and at == 0, asks=asks, is_naming=is_naming)
        noun = following.rstrip("?.!,")
        is_article = token == "the" or (token in ARTICLES and before in BEFORE_ARTICLES)
        if is_article and _WORD.fullmatch(noun) and noun not in NO_NOUNS:
            article_at = len(found) if token != "the" else -9
        elif token not in FILLERS:
            found.append(Token(token, indefinite=not is_naming and len(found) - article_at in (0, 1)))
    return found


def _bare(chunk: str, following: str) -> str:
    """Return a chunk of a line without the marks that end a part of a sentence."""
    if chunk[0] in "`\"'" and len(chunk) > 1:
        return chunk
    ends = not following or following[0].isupper()
    word = chunk.rstrip(".,;:?!" if ends else ".,;:")
    if _WORD.fullmatch(word):
        return word
    return chunk[:-1] if len(chunk) > 1 and chunk[-1] in ".,;:" and (chunk[-2].isalnum() or chunk[-2] in ")]}\"'`") else chunk


def _folded(word: str, *, first: bool, asks: bool, is_naming: bool) -> str:
    """Return a word as it is compared: names of languages and formats, and what begins a line, in small letters."""
    lower = word.lower()
    if (lower in FOLDED and not is_naming) or (first and word[1:] == lower[1:]):
        word = lower
    if word == "which" and not asks:
        return "that"
    return word if is_naming else SHORT_FORMS.get(word, word)


def has_plurals(request: tuple[Token, ...]) -> bool:
    """Return whether a request asks the same of a thing and of things; one to be given a thing does not."""
    begins = next((token.text for token in request if not token.text.endswith(":")), "")
    return begins in WITH_PLURALS and not any(token.text in RESULTS for token in request)


def same_thing(one: Token, other: Token) -> bool:
    """Return whether two tokens say the same: alike, or ``a thing`` and ``things``."""
    return one.text == other.text or (other.indefinite and _plural_of(one, other)) or (one.indefinite and _plural_of(other, one))


def _plural_of(many: Token, single: Token) -> bool:
    if many.indefinite or many.text in INVARIABLE or not _WORD.fullmatch(many.text) or len(single.text) < 3:
        return False
    return many.text == single.text + "s" or (single.text[-1] == "y" and many.text == single.text[:-1] + "ies")
