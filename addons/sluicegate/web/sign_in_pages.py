"""The pages on which a person approves a client's request to sign in: plain HTML in the dashboard's look."""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse

from sluicegate.sign_in.identity import Identity
from sluicegate.sign_in.kept import Waiting
from sluicegate.windows import iso

POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'"
"""Without form-action: Chromium holds that against the redirect to the identity provider, which follows a form."""

ONLY_HERE = f"{POLICY}; form-action 'self'"


def code_page(code: str, problem: str = "", status: int = 200) -> HTMLResponse:
    """Return the page that asks for the code. A code that came with the link is filled in, and sent only by a click."""
    notice = f'<p class="notice bad" role="alert">{escape(problem)}</p>' if problem else ""
    return _page(
        "Sign in",
        f"""<form method="post" action="/device">
<label for="user_code">The code that your terminal shows</label>
<input id="user_code" name="user_code" value="{escape(code)}" maxlength="20" autocomplete="off" autocapitalize="characters"
 spellcheck="false" placeholder="XXXX-XXXX" required>
{notice}
<button class="primary">Continue</button>
<p class="hint">You sign in at your company next. Continue only if you have just started to sign in yourself and your terminal
 shows this code. Never enter a code that somebody has sent you.</p>
</form>""",
        status=status,
    )


def approval_page(identity: Identity, request: Waiting, code: str, approval: str, elsewhere: str | None = None) -> HTMLResponse:
    """Return the page that shows who is about to let which machine act as them.

    ``elsewhere`` is the browser's address where the client is at another: that is how it looks when a stranger has sent the code.
    """
    who = identity.email or identity.user_id
    name = f" ({escape(identity.name)})" if identity.name else ""
    rows = (
        ("Signed in as", f"{escape(who)}{name}"),
        ("Code", escape(code)),
        ("Calls itself", escape(request.client) or "nothing"),
        ("From the address", escape(request.source)),
        ("At", f"{iso(request.asked_at)[:16].replace('T', ' ')} UTC"),
    )
    warning = (
        ""
        if elsewhere is None
        else f"""<p class="problem" role="alert">That is not the address of this browser
 ({escape(elsewhere)}). If you are not at work on a machine there, somebody else asks: do not approve.</p>"""
    )
    primary = ' class="primary"'
    usual, unusual = (primary, "") if elsewhere is None else ("", primary)
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return _page(
        "Is this you?",
        f"""<form method="post" action="/device/decision">
<h2>Is this you?</h2>
<dl class="facts">{listed}</dl>
{warning}
<input type="hidden" name="approval" value="{escape(approval)}">
<p class="hint">Approve only a sign-in that you have started yourself on that machine: it can then work, and spend, as you.</p>
<button{usual} name="decision" value="approve">Approve</button>
<button{unusual} name="decision" value="deny">This is not me</button>
</form>""",
        security=ONLY_HERE,
    )


def dashboard_page(session_path: str) -> HTMLResponse:
    """Return the page that opens the dashboard: its script keeps the path that the session is bound to."""
    body = """<form><h2>You are signed in</h2><p>The dashboard opens; if it does not, <a href="/">open it</a>.</p></form>
<script type="module" src="/static/signed_in.js"></script>"""
    return _page("Signed in", body, place=session_path)


def message_page(title: str, message: str, status: int = 200) -> HTMLResponse:
    """Return a page that only says something."""
    return _page(title, f"<form><h2>{escape(title)}</h2><p>{escape(message)}</p></form>", status=status, security=ONLY_HERE)


def _page(title: str, body: str, *, status: int = 200, security: str = POLICY, place: str = "") -> HTMLResponse:
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} · sluicegate</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/style.css">
<script src="/static/theme.js"></script>
</head>
<body{f' data-place="{escape(place)}"' if place else ""}>
<main class="signin">
<div>
<h1><img src="/static/icon.svg" alt="" width="28" height="28">sluicegate</h1>
{body}
</div>
</main>
</body>
</html>
"""
    # Not no-referrer: with that a browser would send forms without their origin, and they would be refused.
    headers = {"content-security-policy": security, "cache-control": "no-store", "referrer-policy": "same-origin"}
    return HTMLResponse(text, status, headers)
