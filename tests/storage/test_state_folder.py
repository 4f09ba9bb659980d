"""The state folder: one gateway at a time, and its owner's alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.storage.state_folder import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, StateError, StateFolder, url_of_running


def test_a_folder_is_one_gateways_until_it_is_closed(tmp_path: Path) -> None:
    first = StateFolder(tmp_path / "state")
    with pytest.raises(StateError, match="another gateway is using"):
        StateFolder(tmp_path / "state")
    first.close()
    StateFolder(tmp_path / "state").close()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file/state cannot be used"):
        StateFolder(tmp_path / "file" / "state")


def test_the_admin_token_is_made_once_and_kept_for_the_owner_alone(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    token, is_new = folder.admin_token({})
    assert (len(token) >= 40, is_new) == (True, True)
    assert folder.admin_token({}) == (token, False)
    assert folder.admin_token({TOKEN_VARIABLE: "given"}) == ("given", False)
    assert (tmp_path / "admin-token").stat().st_mode & 0o777 == 0o600
    folder.close()


def test_the_admin_token_may_be_in_a_file_of_which_nothing_but_a_whole_token_is_taken(tmp_path: Path) -> None:
    folder, file = StateFolder(tmp_path / "state"), tmp_path / "token"
    env = {TOKEN_FILE_VARIABLE: str(file)}
    file.write_text("  0123456789abcdef0123\n")
    assert folder.admin_token(env) == ("0123456789abcdef0123", False)
    assert folder.admin_token(env | {TOKEN_VARIABLE: "given"}) == ("given", False)
    assert not (tmp_path / "state/admin-token").exists()
    for wrong in (
        b"",
        b"\n",
        b"short",
        b"two words of sixteen",
        b"two\nlines-of-sixteen-1",
        "größer-als-sechzehn".encode(),
        b"\xff" * 20,
    ):
        file.write_bytes(wrong)
        with pytest.raises(StateError, match=TOKEN_FILE_VARIABLE) as told:
            folder.admin_token(env)
        assert wrong.decode("latin-1").strip() not in str(told.value) or not wrong.strip()
    file.unlink()
    with pytest.raises(StateError, match="cannot be read"):
        folder.admin_token(env)
    folder.close()


def test_a_running_gateway_is_found_by_its_folder_and_an_ended_one_is_not(tmp_path: Path) -> None:
    assert url_of_running(tmp_path / "none") is None
    folder = StateFolder(tmp_path)
    assert url_of_running(tmp_path) is None
    folder.note_url("http://127.0.0.1:8080")
    assert url_of_running(tmp_path) == "http://127.0.0.1:8080"
    folder.close()
    assert url_of_running(tmp_path) is None
    # The next one does not listen yet.
    StateFolder(tmp_path)
    assert url_of_running(tmp_path) is None
