"""Headers by which a request chooses an account are taken out; all others keep their bytes and their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.providers.account_headers import REQUEST_NAMES, without_account_choice


@pytest.mark.parametrize("name", REQUEST_NAMES)
def test_every_spelling_of_such_a_header_is_taken_out(name):
    spellings = [name, name.upper(), name.title(), name.replace("-", "_")]
    for spelling in spellings:
        assert without_account_choice(((b"a", b"1"), (spelling.encode(), b"x"), (b"b", b"2"))) == ((b"a", b"1"), (b"b", b"2"))


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=9))))
def test_all_other_headers_stay_as_they_are(fields):
    others = tuple(f for f in fields if f[0].decode("latin-1").lower().replace("_", "-") not in REQUEST_NAMES)
    assert without_account_choice(tuple(fields)) == others
