"""The child process that counts tokens: reads texts from its standard input and writes a count for each, until the input ends."""

from __future__ import annotations

import sys
from typing import BinaryIO

from sluicegate.tokenizers.encodings import count


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more.

    A request is a line with an encoding and a number of bytes, then that many bytes of UTF-8. The answer is a line with
    the count, or with ``error`` and a reason.
    """
    for line in iter(requests.readline, b""):
        encoding, size = line.split()
        text = requests.read(int(size)).decode("utf-8", "replace")
        try:
            answer = str(count(text, encoding.decode()))
        except BaseException as e:
            # tiktoken's engine panics with an exception that is no Exception.
            answer = f"error {e!r}".replace("\n", " ")
        answers.write(answer.encode("utf-8", "replace") + b"\n")
        answers.flush()


def main() -> None:
    """Serve the process that started this one."""
    serve(sys.stdin.buffer, sys.stdout.buffer)
