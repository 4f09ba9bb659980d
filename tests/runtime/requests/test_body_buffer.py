"""The buffer of a request's body behaves as mitmproxy's own does, and hands over its bytes without a copy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.proxy.layers.http import ReceiveBuffer

from runtime.requests.body_buffer import BodyBuffer


@given(st.lists(st.binary(max_size=40) | st.just(None) | st.integers(0, 200)))
def test_it_holds_what_the_stock_buffer_holds(steps):
    """None stands for clearing it, a number for so many bytes still expected; what was taken out before stays as it was."""
    own, stock = BodyBuffer(), ReceiveBuffer()
    taken = []
    for step in steps:
        if step is None:
            own.clear()
            stock.clear()
        elif isinstance(step, int):
            own.expect(len(own) + step)
        else:
            own += step
            stock += step
        taken.append((bytes(own), bytes(stock)))
        assert (len(own), bool(own)) == (len(stock), bool(stock))
    assert all(mine == theirs for mine, theirs in taken)


def test_a_large_body_is_handed_over_without_a_copy():
    own = BodyBuffer()
    own += bytes(4 << 20)
    assert bytes(own) is bytes(own)


def test_a_body_that_only_says_that_it_is_large_takes_no_memory():
    own = BodyBuffer()
    own.expect(1 << 30)
    own += b"x" * 1000
    assert own.getbuffer().nbytes <= 2000
    assert bytes(own) == b"x" * 1000
