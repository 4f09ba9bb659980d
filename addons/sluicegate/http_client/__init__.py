"""The only HTTP client of the running product: webhooks, telemetry, bills, tokens, and the command line's requests to a gateway.

All follow no redirects, verify TLS, and read nothing from the environment themselves: ``.netrc`` would add credentials that were
never configured here. A gateway sets its proxy with ``proxies.choose_proxies``.
"""
