"""Files that only their owner may read, and what shows that a file was written."""

from __future__ import annotations

import os

import pytest

from sluicegate import atomic_write
from sluicegate.atomic_write import ChangedMeanwhileError, fingerprint, replace_unchanged, stage, write_private


@pytest.mark.parametrize("mode", [None, 0o644, 0o400, 0o777])
def test_a_private_file_is_its_owners_alone_whatever_it_was(tmp_path, mode):
    file = tmp_path / "key"
    if mode is not None:
        file.write_bytes(b"old and longer")
        file.chmod(mode)
    write_private(file, b"new")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_is_replaced_and_what_it_names_stays(tmp_path):
    (elsewhere := tmp_path / "elsewhere").write_bytes(b"kept")
    (file := tmp_path / "key").symlink_to(elsewhere)
    write_private(file, b"new")
    assert (file.is_symlink(), file.read_bytes(), elsewhere.read_bytes()) == (False, b"new", b"kept")


def test_a_link_under_the_other_name_is_not_followed(tmp_path):
    (elsewhere := tmp_path / "elsewhere").write_bytes(b"kept")
    (tmp_path / ".key.new").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic link"):
        write_private(tmp_path / "key", b"new")
    assert elsewhere.read_bytes() == b"kept"


def test_a_fingerprint_changes_with_content_and_with_replacement(tmp_path):
    (file := tmp_path / "list").write_bytes(b"a")
    seen = [fingerprint(file.stat())]
    file.write_bytes(b"ab")
    seen.append(fingerprint(file.stat()))
    (other := tmp_path / "other").write_bytes(b"cd")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    seen.append(fingerprint(file.stat()))
    assert len(set(seen)) == 3
    assert fingerprint(file.stat()) == seen[-1]


@pytest.fixture(params=["exchanged", "replaced"])
def way(request, monkeypatch):
    """Both ways to replace a file: as Linux does it, and as a system without ``renameat2``."""
    if request.param == "replaced":
        monkeypatch.setattr(atomic_write.ctypes, "CDLL", lambda *_, **__: object())
    return request.param


def put(files: dict, read: dict) -> None:
    staged = {file: stage(file.resolve(), data) for file, data in files.items()}
    try:
        replace_unchanged(staged, read)
    finally:
        for ready in staged.values():
            ready.unlink(missing_ok=True)


def save(file, text: bytes) -> None:
    """Save as an editor does."""
    (fresh := file.with_suffix(".swp")).write_bytes(text)
    fresh.replace(file)


def saving_before(monkeypatch, saves: dict) -> None:
    """Let an editor save right before the n-th exchange of two files."""
    exchange, count = atomic_write._exchange, iter(range(100))

    def counted(file, other):
        for saved, text in saves.get(next(count), ()):
            save(saved, text)
        exchange(file, other)

    monkeypatch.setattr(atomic_write, "_exchange", counted)


def test_files_that_still_hold_what_was_read_are_replaced_through_their_links(tmp_path, way):
    (a := tmp_path / "a").write_bytes(b"1")
    (b := tmp_path / "b").write_bytes(b"2")
    a.chmod(0o640)
    (link := tmp_path / "link").symlink_to(a)
    put({link: b"one", b: b"two"}, {link: b"1", b: b"2"})
    assert (a.read_bytes(), b.read_bytes(), a.stat().st_mode & 0o777) == (b"one", b"two", 0o640)
    assert sorted(tmp_path.iterdir()) == [a, b, link]


@pytest.mark.parametrize("changed", [None, b"saved"])
def test_files_that_were_changed_or_taken_away_are_left_alone(tmp_path, way, changed):
    (a := tmp_path / "a").write_bytes(b"1")
    (b := tmp_path / "b").write_bytes(b"2")
    b.unlink() if changed is None else save(b, changed)
    with pytest.raises(ChangedMeanwhileError):
        put({a: b"one", b: b"two"}, {a: b"1", b: b"2"})
    assert a.read_bytes() == b"1"
    assert (b.read_bytes() if b.exists() else None) == changed


# -- saved at the last moment, between the comparison and the replacement --


@pytest.mark.parametrize("at", [0, 1])
def test_what_is_saved_at_the_last_moment_stays(tmp_path, monkeypatch, at):
    (a := tmp_path / "a").write_bytes(b"1")
    (b := tmp_path / "b").write_bytes(b"2")
    saving_before(monkeypatch, {at: [((a, b)[at], b"by hand")]})
    with pytest.raises(ChangedMeanwhileError):
        put({a: b"one", b: b"two"}, {a: b"1", b: b"2"})
    assert (a.read_bytes(), b.read_bytes()) == ((b"by hand", b"2") if at == 0 else (b"1", b"by hand"))
    assert sorted(tmp_path.iterdir()) == [a, b]


def test_what_is_saved_again_while_it_is_put_back_stays(tmp_path, monkeypatch):
    (a := tmp_path / "a").write_bytes(b"1")
    saving_before(monkeypatch, {0: [(a, b"first")], 1: [(a, b"second")], 2: [(a, b"third")]})
    with pytest.raises(ChangedMeanwhileError):
        put({a: b"one"}, {a: b"1"})
    assert a.read_bytes() == b"third"
    assert list(tmp_path.iterdir()) == [a]


def test_a_file_that_is_gone_at_the_last_moment_is_not_made_anew(tmp_path, monkeypatch):
    (a := tmp_path / "a").write_bytes(b"1")
    exchange = atomic_write._exchange
    monkeypatch.setattr(atomic_write, "_exchange", lambda file, other: (a.unlink(), exchange(file, other)))
    with pytest.raises(ChangedMeanwhileError):
        put({a: b"one"}, {a: b"1"})
    assert list(tmp_path.iterdir()) == []
