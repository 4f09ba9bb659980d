"""Lines for the shells of developer machines: sh, bash and zsh of Linux and macOS, and PowerShell.

A script of ``script`` works on a machine that has nothing of sluicegate: it fetches the gateway's certificate, adds it to
the system's authorities, and sets the variables. ``assignments`` only sets variables whose files are there.
"""

from __future__ import annotations

import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import urlsplit

from sluicegate.machines.variables import (
    ADDED_CA_VARIABLE,
    BUNDLE_VARIABLES,
    CONSTANTS,
    HEADERS_VARIABLE,
    NO_PROXY_VARIABLES,
    OWN_CA_VARIABLES,
    PLACEHOLDER_KEY,
    PROXY_VARIABLES,
    Machine,
    all_variables,
    names_project,
)
from sluicegate.network.outbound.trust import SYSTEM_BUNDLES
from sluicegate.values import PROJECT_HEADER

CA_FILE = ".sluicegate-ca.pem"
BUNDLE_FILE = ".sluicegate-ca-bundle.pem"
"""Names in the home folder."""

MACOS_KEYCHAINS = ("/System/Library/Keychains/SystemRootCertificates.keychain", "/Library/Keychains/System.keychain")
"""Apple's authorities, and those that a company has installed."""


class Shell(ABC):
    """One kind of shell."""

    title: str

    @abstractmethod
    def quote(self, text: str) -> str:
        """Return a text as one word that the shell takes literally."""

    @abstractmethod
    def assign(self, name: str, value: str) -> str:
        """Return the line that sets a variable; ``value`` is an expression of the shell's."""

    @abstractmethod
    def unset(self, name: str) -> str:
        """Return the line that removes a variable."""

    @abstractmethod
    def remove(self, path: str) -> str:
        """Return the line that deletes a file; ``path`` is an expression of the shell's."""

    @abstractmethod
    def home(self, file: str) -> str:
        """Return a file of the home folder as an expression."""

    @abstractmethod
    def script_lines(self, machine: Machine) -> list[str]:
        """Return the lines before the variables: the key, the certificates, NO_PROXY."""

    @abstractmethod
    def proxy_expression(self, machine: Machine) -> str:
        """Return the proxy's URL with what ``script_lines`` has made of the key."""

    @abstractmethod
    def key_expression(self) -> str:
        """Return the key that ``script_lines`` has kept."""

    @abstractmethod
    def no_proxy_lines(self, hosts: list[str]) -> list[str]:
        """Return the lines that add hosts to NO_PROXY and keep what is there."""

    @abstractmethod
    def header_lines(self, project: str | None) -> list[str]:
        """Return the lines that name a project in Claude Code's own headers, or none any more; its other headers stay."""

    def script(self, machine: Machine) -> str:
        """Return the lines that set a machine up. The key's place is marked where there is none."""
        expressions = dict.fromkeys(PROXY_VARIABLES, self.proxy_expression(machine))
        expressions |= {ADDED_CA_VARIABLE: self.home(CA_FILE)} | dict.fromkeys(BUNDLE_VARIABLES, self.home(BUNDLE_FILE))
        expressions |= {name: self.quote(value) for name, value in CONSTANTS.items()}
        expressions |= dict.fromkeys(machine.key_variables, self.key_expression())
        lines = self.script_lines(machine) + self.no_proxy_lines(machine.own_no_proxy())
        lines += self.header_lines(machine.project) if machine.project else []
        return "\n".join([*lines, *(self.assign(*pair) for pair in expressions.items()), ""])

    def assignments(self, machine: Machine, ca: str, bundle: str, inherited_headers: str = "") -> str:
        """Return the lines that set the variables, for certificates that are there."""
        own_lines = (*NO_PROXY_VARIABLES, HEADERS_VARIABLE)
        values = machine.values(ca, bundle)
        lines = [self.assign(n, self.quote(v)) for n, v in values.items() if n not in own_lines]
        lines += self.header_lines(machine.project) if machine.project or names_project(inherited_headers) else []
        return "\n".join([*lines, *self.no_proxy_lines(machine.own_no_proxy()), *_fingerprint_lines(machine), ""])

    def removal(self, files: Sequence[PurePath] = ()) -> str:
        """Return the lines that undo what was set up; ``files`` are the certificates', by default those of the home folder."""
        paths = [self.quote(str(f)) for f in files] if files else [self.home(f) for f in (CA_FILE, BUNDLE_FILE)]
        return "\n".join(
            [
                "# NO_PROXY stays: it may hold hosts of your own.",
                "# Take the lines out of your shell's profile too, and out of the env of ~/.claude/settings.json.",
                *(self.unset(name) for name in all_variables()),
                *self.header_lines(None),
                *(self.remove(path) for path in paths),
                "",
            ]
        )


def _fingerprint_lines(machine: Machine) -> list[str]:
    return [f"# SHA-256 of the gateway's CA: {sha256}" for sha256 in machine.ca_sha256]


class Posix(Shell):
    """sh, bash and zsh."""

    title = "Linux and macOS (sh, bash, zsh)"

    def quote(self, text: str) -> str:
        """Quote with single quotes."""
        return shlex.quote(text)

    def assign(self, name: str, value: str) -> str:
        """Export it."""
        return f"export {name}={value}"

    def unset(self, name: str) -> str:
        """Unset it."""
        return f"unset {name}"

    def remove(self, path: str) -> str:
        """Delete it if it is there."""
        return f"rm -f {path}"

    def home(self, file: str) -> str:
        """Return it below $HOME, since a tilde is not expanded everywhere."""
        return f'"$HOME/{file}"'

    def script_lines(self, machine: Machine) -> list[str]:
        """Encode the key, and find the authorities where each system keeps them."""
        ca, bundle = self.home(CA_FILE), self.home(BUNDLE_FILE)
        return [
            f"sluicegate_key={self.quote(machine.key or PLACEHOLDER_KEY)}",
            "# As a URL takes it.",
            'case "$sluicegate_key" in',
            "  *[!A-Za-z0-9._~-]*) sluicegate_user=$("
            "printf %s \"$sluicegate_key\" | od -An -v -tx1 | tr -d ' \\n' | sed 's/../%&/g') ;;",
            '  *) sluicegate_user="$sluicegate_key" ;;',
            "esac",
            "# The gateway's certificate, and a bundle of it, the system's authorities and your company's, if you have named them.",
            *_fingerprint_lines(machine),
            f"curl -fsS --noproxy '*' {self.quote(machine.gateway + '/ca.pem')} -o {ca} && {{",
            f"  {_own_file(ADDED_CA_VARIABLE)} >> {ca}",
            '  if [ "$(uname)" = Darwin ]; then',
            f"    security find-certificate -a -p {' '.join(MACOS_KEYCHAINS)}",
            "  else",
            f"    for f in {' '.join(SYSTEM_BUNDLES)}; do",
            '      if [ -r "$f" ]; then cat "$f"; break; fi',
            "    done",
            "  fi",
            *(f"  {_own_file(name)}" for name in OWN_CA_VARIABLES),
            f"  echo; cat {ca}",
            f"}} > {bundle}",
        ]

    def proxy_expression(self, machine: Machine) -> str:
        """Put the encoded key before the host."""
        parts = urlsplit(machine.gateway)
        return f'"{parts.scheme}://$sluicegate_user:{machine.proxy_password}@{parts.netloc}"'

    def key_expression(self) -> str:
        """Return the variable."""
        return '"$sluicegate_key"'

    def no_proxy_lines(self, hosts: list[str]) -> list[str]:
        """Add each host that is not there yet."""
        return [
            'NO_PROXY="${NO_PROXY:-${no_proxy:-}}"',
            f"for h in {' '.join(map(self.quote, hosts))}; do",
            '  case ",$NO_PROXY," in *",$h,"*) ;; *) NO_PROXY="${NO_PROXY:+$NO_PROXY,}$h" ;; esac',
            "done",
            'export NO_PROXY no_proxy="$NO_PROXY"',
        ]

    def header_lines(self, project: str | None) -> list[str]:
        """Take out the line that names a project, in whatever case, and put one at the end."""
        # Not every sed can be told to pass over case.
        name = "".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in PROJECT_HEADER)
        space, added = "[[:space:]]*", f"; echo {self.quote(f'{PROJECT_HEADER}: {project}')}" if project else ""
        return [
            f"{HEADERS_VARIABLE}=$(printf '%s\\n' \"${{{HEADERS_VARIABLE}:-}}\" | "
            f"sed -e '/^{space}{name}{space}:/d' -e '/^{space}$/d'{added})",
            f'export {HEADERS_VARIABLE}; [ -n "${HEADERS_VARIABLE}" ] || unset {HEADERS_VARIABLE}',
        ]


def _own_file(variable: str) -> str:
    """Return a line of sh that prints the authorities which a variable names; a file of ours is none of the developer's own."""
    return f'f="${{{variable}:-}}"; case "$f" in "" | *sluicegate*) ;; *) if [ -r "$f" ]; then echo; cat "$f"; fi ;; esac'


class PowerShell(Shell):
    """PowerShell 5.1 and 7."""

    title = "Windows (PowerShell)"

    def quote(self, text: str) -> str:
        """Quote with single quotes, inside which only they are doubled: those of typography end a text too."""
        return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", text) + "'"

    def assign(self, name: str, value: str) -> str:
        """Set it for this session."""
        return f"$env:{name} = {value}"

    def unset(self, name: str) -> str:
        """Remove it if it is there."""
        return f"Remove-Item Env:{name} -ErrorAction SilentlyContinue"

    def remove(self, path: str) -> str:
        """Delete it if it is there."""
        return f"Remove-Item -LiteralPath {path} -ErrorAction SilentlyContinue"

    def home(self, file: str) -> str:
        """Return it below $HOME."""
        return f"(Join-Path $HOME {self.quote(file)})"

    def script_lines(self, machine: Machine) -> list[str]:
        """Encode the key, and export the authorities of Windows's store."""
        ca, bundle = self.home(CA_FILE), self.home(BUNDLE_FILE)
        return [
            f"$SluicegateKey = {self.quote(machine.key or PLACEHOLDER_KEY)}",
            "$SluicegateUser = [uri]::EscapeDataString($SluicegateKey)",
            "# The gateway's certificate, and a bundle of it with the system's authorities, your company's among them.",
            *_fingerprint_lines(machine),
            "$Web = New-Object Net.WebClient; $Web.Proxy = $null",
            f"$Web.DownloadFile({self.quote(machine.gateway + '/ca.pem')}, {ca})",
            f"if ($env:{ADDED_CA_VARIABLE} -and $env:{ADDED_CA_VARIABLE} -notlike '*sluicegate*') {{ "
            f"Add-Content -LiteralPath {ca} -Value (Get-Content -LiteralPath $env:{ADDED_CA_VARIABLE}) }}",
            "$Roots = Get-ChildItem -Path 'Cert:\\LocalMachine\\Root', 'Cert:\\CurrentUser\\Root' | ForEach-Object { "
            "'-----BEGIN CERTIFICATE-----'; [Convert]::ToBase64String($_.RawData, 'InsertLineBreaks'); "
            "'-----END CERTIFICATE-----' }",
            f"Set-Content -Encoding Ascii -LiteralPath {bundle} -Value (@($Roots) + (Get-Content -LiteralPath {ca}))",
        ]

    def proxy_expression(self, machine: Machine) -> str:
        """Put the encoded key before the host."""
        parts = urlsplit(machine.gateway)
        return f'"{parts.scheme}://${{SluicegateUser}}:{machine.proxy_password}@{parts.netloc}"'

    def key_expression(self) -> str:
        """Return the variable."""
        return "$SluicegateKey"

    def no_proxy_lines(self, hosts: list[str]) -> list[str]:
        """Add each host that is not there yet; Windows has one variable for both spellings of the name."""
        listed = ", ".join(map(self.quote, hosts))
        return [
            f"$env:NO_PROXY = (@(\"$env:NO_PROXY\" -split ',') + @({listed}) | "
            "Where-Object { $_ } | Select-Object -Unique) -join ','"
        ]

    def header_lines(self, project: str | None) -> list[str]:
        """Take out the line that names a project, in whatever case, and put one at the end."""
        added = f" + @({self.quote(f'{PROJECT_HEADER}: {project}')})" if project else ""
        return [
            f'$env:{HEADERS_VARIABLE} = (@("$env:{HEADERS_VARIABLE}" -split "`n" | '
            f"Where-Object {{ $_.Trim() -and $_ -notmatch '^\\s*{PROJECT_HEADER}\\s*:' }}){added}) -join \"`n\""
        ]


POSIX, POWERSHELL = Posix(), PowerShell()

SHELLS: dict[str, Shell] = {"shell": POSIX, "powershell": POWERSHELL}
"""By the name that ``--format`` has for them."""
