"""The tables of sign-ins, for both engines. Hashes and what is sealed are hexadecimal text; times are epoch milliseconds."""

from __future__ import annotations

from sluicegate.fleet.store.tables import Schema

STEPS: tuple[tuple[str, ...], ...] = (
    (
        # What nodes follow. The only row of the first is locked by whoever changes anything that they go by, so the changes
        # become visible in the order of their numbers.
        "CREATE TABLE sign_in_head (id integer PRIMARY KEY, number bigint NOT NULL, mark text NOT NULL)",
        "INSERT INTO sign_in_head (id, number, mark) VALUES (1, 0, '')",
        """CREATE TABLE sign_in_changes (
          number bigint PRIMARY KEY, mark text NOT NULL, ended text NOT NULL, at bigint NOT NULL
        )""",
        """CREATE TABLE signed_in (
          id text PRIMARY KEY, user_id text NOT NULL, virtual_key_id text NOT NULL, subject text NOT NULL, email text, name text,
          source text NOT NULL, client text NOT NULL, began_at bigint NOT NULL, renewed_at bigint NOT NULL,
          checked_at bigint NOT NULL, ends_at bigint NOT NULL, member_of text NOT NULL, provider_token text,
          disputed_from text, disputed_at bigint
        )""",
        "CREATE INDEX signed_in_user ON signed_in (user_id)",
        "CREATE INDEX signed_in_ends ON signed_in (ends_at)",
        """CREATE TABLE sign_in_access_tokens (
          digest text PRIMARY KEY, sign_in text NOT NULL, ends_at bigint NOT NULL, number bigint NOT NULL
        )""",
        "CREATE INDEX sign_in_access_tokens_of ON sign_in_access_tokens (sign_in)",
        "CREATE INDEX sign_in_access_tokens_number ON sign_in_access_tokens (number)",
        "CREATE INDEX sign_in_access_tokens_ends ON sign_in_access_tokens (ends_at)",
        # A used one stays as long as its sign-in: when it comes again, somebody has copied it.
        """CREATE TABLE sign_in_refresh_tokens (
          digest text PRIMARY KEY, sign_in text NOT NULL, used_from text, used_at bigint, claim text, claimed_until bigint,
          answer text
        )""",
        "CREATE INDEX sign_in_refresh_tokens_of ON sign_in_refresh_tokens (sign_in)",
        "CREATE INDEX sign_in_refresh_tokens_answer ON sign_in_refresh_tokens (used_at) WHERE answer <> ''",
        "CREATE TABLE sign_in_accounts (user_id text PRIMARY KEY, provider text NOT NULL, subject text NOT NULL)",
        """CREATE TABLE sign_in_requests (
          device text PRIMARY KEY, user_code text NOT NULL UNIQUE, source text NOT NULL, counted text NOT NULL,
          client text NOT NULL, asked_at bigint NOT NULL, ends_at bigint NOT NULL, interval_s bigint NOT NULL,
          asked_again_at bigint, state text NOT NULL, public_key text NOT NULL, user_id text, identity text, sealed text,
          virtual_key_id text
        )""",
        "CREATE INDEX sign_in_requests_counted ON sign_in_requests (counted)",
        "CREATE INDEX sign_in_requests_ends ON sign_in_requests (ends_at)",
        "CREATE INDEX sign_in_requests_user ON sign_in_requests (user_id)",
        """CREATE TABLE sign_in_browsers (
          id text PRIMARY KEY, counted text NOT NULL, ends_at bigint NOT NULL, sealed text NOT NULL, user_id text
        )""",
        "CREATE INDEX sign_in_browsers_counted ON sign_in_browsers (counted)",
        "CREATE INDEX sign_in_browsers_ends ON sign_in_browsers (ends_at)",
        "CREATE INDEX sign_in_browsers_user ON sign_in_browsers (user_id)",
        "CREATE TABLE sign_in_guesses (source text PRIMARY KEY, count bigint NOT NULL, last bigint NOT NULL)",
        "CREATE INDEX sign_in_guesses_last ON sign_in_guesses (last)",
        """CREATE TABLE dashboard_people (
          holder text PRIMARY KEY, provider text NOT NULL, subject text NOT NULL, user_id text NOT NULL, identity text NOT NULL,
          at bigint NOT NULL, UNIQUE (provider, subject)
        )""",
        "CREATE INDEX dashboard_people_user ON dashboard_people (user_id)",
        "CREATE INDEX dashboard_people_at ON dashboard_people (at)",
        """CREATE TABLE dashboard_sessions (
          id text PRIMARY KEY, holder text NOT NULL, opened_at bigint NOT NULL, used_at bigint NOT NULL
        )""",
        "CREATE INDEX dashboard_sessions_holder ON dashboard_sessions (holder, opened_at)",
        "CREATE INDEX dashboard_sessions_used ON dashboard_sessions (used_at)",
        "CREATE INDEX dashboard_sessions_opened ON dashboard_sessions (opened_at)",
    ),
)
"""By version: the statements that lead to it from the one before. A step that has been released is never edited."""

SCHEMA = Schema("sign_in_meta", STEPS, 1)
