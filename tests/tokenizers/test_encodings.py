"""Encodings: the model's own tokenizer, from bundled data alone."""

from __future__ import annotations

import lzma
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.tokenizers import encodings
from sluicegate.tokenizers.encodings import EncodingError, count, encoding_of, pieces


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("openai/gpt-4.1-nano", "o200k_base"),
        ("gpt-5.1-codex-max", "o200k_base"),
        ("gpt-6.2-sol", "o200k_base"),
        ("gpt-oss-120b", "o200k_base"),
        ("o3", "o200k_base"),
        ("o4-mini-2025-04-16", "o200k_base"),
        ("codex-mini-latest", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("GPT-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-3.5-turbo-0125", "cl100k_base"),
        ("ft:gpt-3.5-turbo-0125:acme::abc", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("claude-haiku-5-5", None),
        ("gemini-3.1-pro-preview", None),
        ("qwen3-coder-plus", None),
        ("o2-secret", None),
        ("", None),
    ],
)
def test_the_encoding_of_a_model(model, encoding):
    assert encoding_of(model) == encoding


@pytest.mark.parametrize(
    ("text", "o200k", "cl100k"),
    [
        # OpenAI's cookbook, "How to count tokens with tiktoken".
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 8, 9),
        ("", 0, 0),
    ],
)
def test_counts_that_openai_has_published(text, o200k, cl100k):
    assert (count(text, "o200k_base"), count(text, "cl100k_base")) == (o200k, cl100k)


@pytest.mark.parametrize("encoding", encodings.SOURCES)
def test_patterns_are_those_of_tiktoken(encoding, monkeypatch):
    from tiktoken_ext import openai_public

    asked = []
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda url, expected_hash: asked.append(expected_hash) or {})
    theirs = getattr(openai_public, encoding)()
    assert theirs["pat_str"] == encodings.SOURCES[encoding].pattern
    assert asked == [encodings.SOURCES[encoding].sha256]


def test_special_tokens_are_text():
    assert count("<|endoftext|>", "o200k_base") > 1


def test_halves_of_a_character_are_joined():
    assert count("a\ud83d\ude00b", "o200k_base") == count("a😀b", "o200k_base")
    assert count("a\ud83db", "o200k_base") == count("a\ufffdb", "o200k_base")


@pytest.mark.parametrize("text", [" " * 1_500_000, "\n" * 1_500_000, "a" * 300_000, "=" * 300_000, "́" * 100_000])
def test_texts_that_would_overflow_the_encoder_are_counted(text):
    assert len(text) / 200 < count(text, "o200k_base") <= len(text)


@given(st.text(), st.integers(2, 50))
def test_pieces_are_the_text(text, size):
    parts = list(pieces(text, size))
    assert "".join(parts) == text
    assert all(0 < len(part) <= size for part in parts) or parts == [""]


words = st.text(st.sampled_from("abcXYZ089 \t{}()/'é漢.\r"), min_size=1, max_size=30)
lines = st.lists(words.map(lambda w: "x" + w), min_size=20, max_size=60).map("\n".join)


@pytest.mark.parametrize("encoding", encodings.SOURCES)
@given(text=lines)
def test_a_cut_between_lines_changes_no_count(encoding, text):
    assert sum(count(piece, encoding) for piece in pieces(text, 80)) == count(text, encoding)


def test_ranks_that_are_not_openais_are_refused(tmp_path, monkeypatch):
    (tmp_path / "o200k_base.tiktoken.xz").write_bytes(lzma.compress(b"IQ== 0\n"))
    (tmp_path / "cl100k_base.tiktoken.xz").write_bytes(b"not xz")
    monkeypatch.setattr(encodings, "DATA", tmp_path)
    load = encodings._load.__wrapped__
    with pytest.raises(EncodingError, match=r"o200k_base.tiktoken.xz is not the file that it should be.* install sluicegate again"):
        load("o200k_base")
    with pytest.raises(EncodingError, match="cl100k_base cannot be loaded"):
        load("cl100k_base")
    with pytest.raises(EncodingError, match="no encoding 'p50k_base'; known are o200k_base, cl100k_base"):
        load("p50k_base")


def test_ranks_come_from_the_package_and_tiktoken_only_with_the_first_count():
    code = """
import sys, socket
import sluicegate.tokenizers.encodings as e, sluicegate.tokenizers.counter, sluicegate.tokenizers.worker
assert e.encoding_of("gpt-5") == "o200k_base"
assert not [m for m in sys.modules if m.startswith(("tiktoken", "regex"))]
def refuse(*_): raise AssertionError("the network")
socket.socket.connect = socket.getaddrinfo = refuse
print(e.count("hello world", "o200k_base"), e.count("hello world", "cl100k_base"))
"""
    env = {"PYTHONPATH": ":".join(sys.path), "TIKTOKEN_CACHE_DIR": "/nonexistent"}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout == "2 2\n"
