"""The gateway's authorities: made once, taken over from an earlier version, followed by others with and without an overlap."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import ssl
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.certs import CertStore
from OpenSSL import crypto

from runtime.network.authority import DH_PARAMETERS, prepared
from sluicegate.authority import folder as folder_module
from sluicegate.authority.certificate import fingerprint, make_authority, moment
from sluicegate.authority.folder import (
    CERTIFICATE_FILE,
    KEY_FILE,
    LIST,
    LOCK,
    RETIRED_KEY_KEPT_MS,
    AuthorityError,
    AuthorityFolder,
)
from sluicegate.authority.watcher import AuthorityWatcher
from sluicegate.windows import parse_iso

NOW = parse_iso("2026-11-27T12:00:00Z")
DAY_MS = 86_400_000


@pytest.fixture
def folder(tmp_path):
    made = AuthorityFolder(tmp_path / "state/ca")
    made.ensure(NOW)
    return made


def certificates(pem):
    return x509.load_pem_x509_certificates(pem)


def names(folder, now):
    return [(a.folder.name, state) for a, state in folder.states(now)]


def test_the_first_is_made_once_private_and_in_a_form_that_mitmproxy_reads(folder):
    before = {p.name: p.read_bytes() for p in folder.path.iterdir()}
    assert folder.ensure(NOW + DAY_MS).folder == folder.path
    assert {p.name: p.read_bytes() for p in folder.path.iterdir()} == before
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.path.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    store = CertStore.from_store(folder.path, "mitmproxy", 2048)
    leaf = store.get_cert("api.anthropic.com", [x509.DNSName("api.anthropic.com")]).cert
    leaf.to_cryptography().verify_directly_issued_by(store.default_ca.to_cryptography())
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert folder.handed_out(NOW) == store.default_ca.to_pem()
    # The strictest reader of those at hand.
    strict = ssl.create_default_context(cadata=folder.handed_out(NOW).decode())
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    assert len(strict.get_ca_certs()) == 1
    made = crypto.X509Store()
    made.add_cert(crypto.X509.from_cryptography(store.default_ca.to_cryptography()))
    made.set_flags(crypto.X509StoreFlags.X509_STRICT)
    crypto.X509StoreContext(made, crypto.X509.from_cryptography(leaf.to_cryptography())).verify_certificate()


def test_what_an_earlier_version_made_goes_on_being_used_and_stays_where_it_was(tmp_path):
    earlier, none, expired = tmp_path / "home/.mitmproxy", tmp_path / "state", tmp_path / "expired"
    earlier.mkdir(parents=True)
    CertStore.from_store(earlier, "mitmproxy", 2048)
    expired.mkdir()
    key, certificate = make_authority(moment(NOW) - datetime.timedelta(days=4000))
    (expired / KEY_FILE).write_bytes(key + certificate)
    before = {p.name: p.read_bytes() for p in earlier.iterdir()}
    folder = AuthorityFolder(none / "ca")
    folder.ensure(NOW, (none, expired, earlier))
    assert folder.handed_out(NOW) == before[CERTIFICATE_FILE]
    assert (folder.path / KEY_FILE).read_bytes() == before[KEY_FILE]
    assert stat.S_IMODE((folder.path / CERTIFICATE_FILE).stat().st_mode) == 0o600
    assert {p.name: p.read_bytes() for p in earlier.iterdir()} == before
    (shown,) = folder.describe(NOW)
    assert (shown.subject, shown.state, shown.signs_from) == ("O=mitmproxy,CN=mitmproxy", "signing", None)


@pytest.mark.parametrize("name", [KEY_FILE, CERTIFICATE_FILE])
@pytest.mark.parametrize("order", ["key first", "key last", "key between", "with words"])
def test_an_authority_put_there_by_hand_is_handed_out_without_its_key(tmp_path, name, order):
    key, certificate = make_authority(moment(NOW))
    root = make_authority(moment(NOW))[1]
    parts = {
        "key first": (key, certificate, root),
        "key last": (certificate, root, key),
        "key between": (certificate, key, root),
        "with words": (b"Bag Attributes\n", certificate, b"\nKey Attributes: <none>\n", key, root),
    }
    (tmp_path / KEY_FILE).write_bytes(key + certificate)
    (tmp_path / name).write_bytes(b"".join(parts[order]))
    folder = AuthorityFolder(tmp_path)
    assert folder.handed_out(NOW) == certificate + root
    assert folder.signing(NOW).certificate() == certificates(certificate)[0]


@pytest.mark.parametrize("writes", range(3))
@pytest.mark.parametrize("adopts", [False, True])
def test_a_first_start_that_is_cut_off_can_be_repeated(tmp_path, monkeypatch, writes, adopts):
    earlier = AuthorityFolder(tmp_path / "earlier")
    earlier.ensure(NOW)
    folder, left = AuthorityFolder(tmp_path / "ca"), [writes]
    write, sources = folder_module.write_private, [earlier.path] if adopts else []

    def cut(file, data):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(folder_module, "write_private", cut)
        try:
            folder.ensure(NOW, sources)
        except KeyboardInterrupt:
            assert writes < 2
    signing = folder.ensure(NOW, sources)
    assert signing.has_key
    assert (folder.handed_out(NOW) == earlier.handed_out(NOW)) is adopts
    CertStore.from_store(folder.path, "mitmproxy", 2048)


@pytest.mark.parametrize("writes", range(3))
def test_a_rotation_that_is_cut_off_changes_nothing(folder, monkeypatch, writes):
    before, write, left = folder.handed_out(NOW), folder_module.write_private, [writes]

    def cut(file, data):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(folder_module, "write_private", cut)
        with pytest.raises(KeyboardInterrupt):
            folder.rotate(NOW, DAY_MS)
    assert (folder.handed_out(NOW), folder.ensure(NOW).folder) == (before, folder.path)
    folder.rotate(NOW, DAY_MS)
    assert len(folder.read()) == 2


def test_of_two_rotations_at_once_one_is_announced(folder):
    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(AuthorityFolder(folder.path).rotate, NOW, DAY_MS) for _ in range(6)]
    refused = [d.exception() for d in done if d.exception() is not None]
    assert (len(refused), {type(e) for e in refused}) == (5, {AuthorityError})
    assert [state for _, state in names(folder, NOW)] == ["signing", "announced"]


def test_a_broken_or_foreign_key_is_not_taken_over(tmp_path):
    key, certificate = make_authority(moment(NOW))
    another = make_authority(moment(NOW))[0]
    for name, data in (("broken", b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"), ("foreign", another)):
        (tmp_path / name).mkdir()
        (tmp_path / name / KEY_FILE).write_bytes(data + certificate)
    locked = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password")
    )
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / KEY_FILE).write_bytes(locked + certificate)
    folder = AuthorityFolder(tmp_path / "ca")
    folder.ensure(NOW, [tmp_path / "broken", tmp_path / "foreign"])
    assert folder.handed_out(NOW) != certificate
    # Whoever has given a key a password names it to mitmproxy too.
    theirs = AuthorityFolder(tmp_path / "theirs")
    theirs.ensure(NOW, [tmp_path / "broken", tmp_path / "locked"])
    assert theirs.handed_out(NOW) == certificate
    made = theirs.rotate(NOW, 0)
    for authority in (theirs.path, made.folder):
        CertStore.from_store(authority, "mitmproxy", 2048, b"a password")


def test_one_whose_key_is_damaged_never_takes_over(folder):
    old = folder.handed_out(NOW)
    made = folder.rotate(NOW, DAY_MS)
    made.folder.joinpath(KEY_FILE).write_bytes(b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n")
    assert folder.signing(NOW + DAY_MS).folder == folder.path
    # What clients are given to trust is what signs.
    assert old in folder.handed_out(NOW + DAY_MS)
    seen = []
    watcher = AuthorityWatcher(folder, folder.signing(NOW), lambda: NOW + DAY_MS, seen.append)
    assert (watcher.check(), seen) == (False, [])
    folder.forget_keys(NOW + 100 * DAY_MS)
    assert folder.signing(NOW + 100 * DAY_MS).folder == folder.path
    with pytest.raises(AuthorityError, match="has no key"):
        folder.finish(NOW)


def test_a_retired_authority_may_be_deleted_by_hand(folder):
    folder.rotate(NOW, 0)
    gone = folder.rotate(NOW + 1, 0)
    folder.rotate(NOW + 2, 0)
    shutil.rmtree(gone.folder)
    assert [a.state for a in folder.describe(NOW + 2)] == ["retired", "retired", "signing"]
    folder.rotate(NOW + 3, DAY_MS)
    folder.forget_keys(NOW + 30 * DAY_MS)
    announced = folder.read()[-1]
    (announced.folder / KEY_FILE).unlink()
    with pytest.raises(AuthorityError, match="has no key: restore it from a backup, or make another with --now"):
        folder.finish(NOW + 4)


def test_for_an_overlap_the_old_one_signs_and_both_are_handed_out(folder):
    old = folder.handed_out(NOW)
    made = folder.rotate(NOW, 30 * DAY_MS)
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in made.folder.iterdir()} == {0o600}
    assert folder.signing(NOW + 30 * DAY_MS - 1).folder == folder.path
    assert folder.handed_out(NOW + 30 * DAY_MS - 1) == old + made.pem()
    assert len({c.subject.rfc4514_string() for c in certificates(folder.handed_out(NOW))}) == 2
    assert folder.next_change(NOW) == NOW + 30 * DAY_MS
    with pytest.raises(AuthorityError, match=r"announced already, and signs from 2026-12-27T12:00:00\.000Z: give --finish"):
        folder.rotate(NOW + 1, DAY_MS)
    assert folder.signing(NOW + 30 * DAY_MS).folder == made.folder
    assert folder.handed_out(NOW + 30 * DAY_MS) == made.pem()
    assert [state for _, state in names(folder, NOW + 30 * DAY_MS)] == ["retired", "signing"]
    shown = folder.describe(NOW)
    assert [(a.state, a.sha256) for a in shown] == [
        ("signing", fingerprint(certificates(old)[0])),
        ("announced", fingerprint(certificates(made.pem())[0])),
    ]
    assert shown[0].signs_until == shown[1].signs_from == "2026-12-27T12:00:00.000Z"


def test_an_overlap_can_be_ended_and_a_stolen_key_replaced_at_once(folder):
    made = folder.rotate(NOW, 30 * DAY_MS)
    assert folder.finish(NOW + 5).folder == made.folder
    assert folder.signing(NOW + 5).folder == made.folder
    with pytest.raises(AuthorityError, match="no CA is announced"):
        folder.finish(NOW + 6)
    dropped = folder.rotate(NOW + 7, DAY_MS)
    urgent = folder.rotate(NOW + 8, 0)
    assert folder.handed_out(NOW + 8) == urgent.pem()
    assert not (dropped.folder / KEY_FILE).exists()
    assert [state for _, state in names(folder, NOW + DAY_MS * 9)] == ["retired", "retired", "signing"]


def test_the_key_of_a_retired_authority_is_deleted_after_a_while_and_no_other(folder):
    made = folder.rotate(NOW, DAY_MS)
    changed = NOW + DAY_MS
    folder.forget_keys(changed + RETIRED_KEY_KEPT_MS - 1)
    assert (folder.path / KEY_FILE).exists()
    # A clock put back: the old one signs again while its key is there.
    assert folder.signing(NOW).folder == folder.path
    folder.forget_keys(changed + RETIRED_KEY_KEPT_MS)
    assert not (folder.path / KEY_FILE).exists()
    assert (folder.path / CERTIFICATE_FILE).exists()
    assert (made.folder / KEY_FILE).exists()
    assert folder.signing(NOW).folder == made.folder
    assert [state for _, state in names(folder, changed)] == ["retired", "signing"]


def test_no_overlap_outlives_the_one_that_signs(tmp_path):
    key, certificate = make_authority(moment(NOW) - datetime.timedelta(days=3640))
    (tmp_path / KEY_FILE).write_bytes(key + certificate)
    folder = AuthorityFolder(tmp_path)
    with pytest.raises(AuthorityError, match=r"expires on 2026-12-07: give a shorter --overlap, or --now"):
        folder.rotate(NOW, 30 * DAY_MS)
    assert len(folder.read()) == 1
    folder.rotate(NOW, 5 * DAY_MS)
    assert folder.next_change(NOW) == NOW + 5 * DAY_MS


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"authorities": []}', "[" * 100_000, '{"authorities": 1}', '{"authorities": [{"folder": "../x", "signs_from": null}]}',
     '{"authorities": [{"folder": "..", "signs_from": null}]}', '{"authorities": [{"folder": ".", "signs_from": "soon"}]}'],
)  # fmt: skip
def test_a_list_that_cannot_be_read_is_said_and_nothing_is_made(folder, text):
    (folder.path / LIST).write_text(text)
    before = folder.path.joinpath(KEY_FILE).read_bytes()
    with pytest.raises(AuthorityError, match="restore it from a backup"):
        folder.ensure(NOW)
    assert folder.path.joinpath(KEY_FILE).read_bytes() == before
    with pytest.raises(AuthorityError, match="restore it from a backup"):
        folder.rotate(NOW, 0)


def test_without_its_key_no_other_is_made_in_silence(folder):
    folder.rotate(NOW, 0)
    for authority in folder.read():
        (authority.folder / KEY_FILE).unlink()
    with pytest.raises(AuthorityError, match=r"has no key.*restore it from a backup"):
        folder.ensure(NOW)


def test_what_is_there_is_used_though_nothing_can_be_written_beside_it(folder):
    folder.path.joinpath(LOCK).unlink()
    folder.path.joinpath(LOCK).mkdir()
    assert folder.ensure(NOW).folder == folder.path
    with pytest.raises(AuthorityError, match="cannot be changed: "):
        folder.rotate(NOW, 0)
    folder.path.joinpath(DH_PARAMETERS).symlink_to(folder.path / "no such folder/file")
    with pytest.raises(AuthorityError, match=r"dhparam\.pem cannot be written: .*; a folder that is read-only must have it"):
        prepared(folder.signing(NOW))


def test_a_key_that_cannot_be_read_is_said_by_its_path(folder):
    folder.path.joinpath(KEY_FILE).unlink()
    folder.path.joinpath(KEY_FILE).mkdir()
    with pytest.raises(AuthorityError, match=f"{folder.path}/{KEY_FILE} cannot be read: .*gateway's user"):
        folder.ensure(NOW)


def test_nothing_is_rotated_before_the_first_start(tmp_path):
    with pytest.raises(AuthorityError, match="made when the gateway starts"):
        AuthorityFolder(tmp_path / "none").rotate(NOW, 0)
    assert not (tmp_path / "none").exists()
    assert AuthorityFolder(tmp_path).handed_out(NOW) == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_rotates_belongs_to_the_gateways_user(folder):
    for path in (folder.path, *folder.path.iterdir()):
        os.chown(path, 12_345, 12_345)
    made = folder.rotate(NOW, DAY_MS)
    assert {p.stat().st_uid for p in (made.folder, *made.folder.iterdir(), folder.path / LIST)} == {12_345}


@given(steps=st.lists(st.tuples(st.sampled_from(("rotate", "now", "finish")), st.integers(1, 40)), max_size=4))
def test_one_always_signs_and_is_always_handed_out(tmp_path_factory, steps):
    folder, now = AuthorityFolder(tmp_path_factory.mktemp("ca")), NOW
    folder.ensure(now)
    for step, days in steps:
        try:
            if step == "finish":
                folder.finish(now)
            else:
                folder.rotate(now, 0 if step == "now" else 20 * DAY_MS)
        except AuthorityError:
            pass
        for at in (now, now + 20 * DAY_MS - 1, now + 20 * DAY_MS):
            states = [state for _, state in folder.states(at)]
            assert states == sorted(states, key=("retired", "signing", "announced").index)
            assert states.count("signing") == 1
            assert states.count("announced") <= 1
            signing = folder.signing(at)
            assert signing.has_key
            assert signing.certificate() in certificates(folder.handed_out(at))
            assert len(certificates(folder.handed_out(at))) == 1 + states.count("announced")
        # Whoever has fetched before a change of its own accord trusts what signs after it.
        changes = folder.next_change(now)
        if changes is not None:
            assert folder.signing(changes).certificate() in certificates(folder.handed_out(now))
        now += days * DAY_MS


def test_the_watcher_follows_a_rotation_and_the_clock(folder):
    now, seen = [NOW], []
    watcher = AuthorityWatcher(folder, folder.signing(NOW), lambda: now[0], seen.append)
    assert not watcher.check()
    made = folder.rotate(NOW, DAY_MS)
    assert not watcher.check()
    now[0] += DAY_MS - 1
    assert not watcher.check()
    now[0] += 1
    assert watcher.check()
    assert not watcher.check()
    assert seen == [made]
    again = folder.rotate(now[0], 0)
    assert watcher.check()
    assert seen == [made, again]
    (folder.path / LIST).write_text(json.dumps({"authorities": "?"}))
    with pytest.raises(AuthorityError):
        watcher.check()
    # Once: it is read again when it changes.
    assert not watcher.check()
    assert watcher.signing == again
