"""The buffer of a request's body behaves as mitmproxy's own does, and hands over its bytes without a copy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.proxy.layers.http import ReceiveBuffer

from runtime.requests.body_buffer import BodyBuffer


@given(st.lists(st.binary(max_size=40) | st.just(None)))
def test_it_holds_what_the_stock_buffer_holds(steps):
    """None stands for clearing it; what was taken out before stays as it was."""
    own, stock = BodyBuffer(), ReceiveBuffer()
    taken = []
    for step in steps:
        if step is None:
            own.clear()
            stock.clear()
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
