"""Files that only their owner may read, and what shows that a file was written."""

from __future__ import annotations

import os

import pytest

from sluicegate.atomic_write import fingerprint, write_private


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
