"""What can be deployed: for each target its files, where they go, and the commands that follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sluicegate import paths
from sluicegate.operations.deployment.site import Site, SiteError, fill_in

RUN_LOCK = "constraints-run.txt"
"""The lock a gateway is installed from, which an image is built with."""


@dataclass(frozen=True, slots=True)
class Target:
    """One way to run a gateway, or one proxy in front of it."""

    about: str
    files: Mapping[str, str]
    """The path each file is written to, and its template under ``deploy/``; a template that is a folder is written whole."""
    next_commands: tuple[str, ...]
    """What is typed next, in the folder of the files."""
    secrets: str = "/run/credentials/sluicegate.service"
    """The folder in which the gateway finds its secrets' files."""
    is_plaintext: bool = False
    """Whether the gateway listens beyond loopback, on a network of its own."""


_FIRST_KEY = "key create --gateway http://127.0.0.1:@PORT@ --team team-engineering --budget 50/1M"
"""Makes a virtual key by the running gateway, whose value is shown once."""

_TLS_COMMANDS = (
    "sudo install -d -m 0755 /etc/sluicegate/tls",
    "sudo install -m 0644 /path/to/fullchain.pem /etc/sluicegate/tls/fullchain.pem",
    "sudo install -m 0640 -g @USER@ /path/to/privkey.pem /etc/sluicegate/tls/privkey.pem",
)
"""Put the port's certificate where the gateway reads it, and again whenever it is renewed."""

_IMAGE = {"Dockerfile": "docker/Dockerfile", ".dockerignore": "docker/dockerignore", RUN_LOCK: RUN_LOCK}

TARGETS: dict[str, Target] = {
    "systemd": Target(
        "a system service with its own user, hardened",
        {
            "sluicegate.service": "systemd/sluicegate.service",
            "sluicegate.sysusers": "systemd/sluicegate.sysusers",
            "policy.yaml": "policy.yaml",
        },
        (
            "sudo install -D -m 0644 sluicegate.sysusers /etc/sysusers.d/sluicegate.conf",
            "sudo systemd-sysusers sluicegate.conf",
            "sudo install -d -m 0700 /etc/sluicegate/credentials",
            "sudo install -d -m 0750 -o @USER@ -g @USER@ /etc/sluicegate/policy",
            "sudo install -m 0640 -o @USER@ -g @USER@ policy.yaml /etc/sluicegate/policy/policy.yaml",
            'printf %s "$ANTHROPIC_API_KEY" | sudo install -m 0600 /dev/stdin /etc/sluicegate/credentials/anthropic',
            "openssl rand -hex 32 | sudo install -m 0600 /dev/stdin /etc/sluicegate/credentials/admin-token",
            *_TLS_COMMANDS,
            "sudo install -m 0644 sluicegate.service /etc/systemd/system/sluicegate.service",
            "sudo systemctl daemon-reload",
            "sudo systemctl enable --now sluicegate",
            "export SLUICEGATE_ADMIN_TOKEN=$(sudo cat /etc/sluicegate/credentials/admin-token)",
            f"@COMMAND@ {_FIRST_KEY}",
            "sudo env SLUICEGATE_POLICY=/etc/sluicegate/policy/policy.yaml SLUICEGATE_STATE=@STATE@ @COMMAND@ doctor",
        ),
    ),
    "docker": Target(
        "an image that runs as a user without rights on a read-only root",
        {**_IMAGE, "policy/policy.yaml": "policy.yaml"},
        (
            "cp /path/to/sluicegate-@VERSION@-*.whl .",
            "docker build --tag sluicegate:@VERSION@ .",
            "mkdir -p -m 0700 secrets",
            'printf %s "$ANTHROPIC_API_KEY" >secrets/anthropic',
            "openssl rand -hex 32 >secrets/admin-token",
            "chmod 0400 secrets/*",
            "sudo chown -R 10001:10001 policy secrets",
            "docker run --detach --name sluicegate --restart unless-stopped --stop-timeout 60 --read-only --cap-drop ALL "
            "--security-opt no-new-privileges --tmpfs /tmp --publish 127.0.0.1:@PORT@:@PORT@ --volume sluicegate:@STATE@ "
            '--volume "$PWD/policy:/etc/sluicegate" --volume "$PWD/secrets:/run/secrets:ro" '
            "--env SLUICEGATE_ADMIN_TOKEN_FILE=/run/secrets/admin-token sluicegate:@VERSION@",
            f"docker exec sluicegate sluicegate {_FIRST_KEY}",
        ),
        secrets="/run/secrets",
        is_plaintext=True,
    ),
    "compose": Target(
        "that image under Docker Compose, with its secrets as files",
        {**_IMAGE, "compose.yaml": "compose/compose.yaml", "policy/policy.yaml": "policy.yaml"},
        (
            "cp /path/to/sluicegate-@VERSION@-*.whl .",
            "mkdir -p -m 0700 secrets",
            'printf %s "$ANTHROPIC_API_KEY" >secrets/anthropic',
            "openssl rand -hex 32 >secrets/admin-token",
            "chmod 0400 secrets/*",
            "sudo chown -R 10001:10001 policy secrets",
            "docker compose up --detach --build --wait",
            f"docker compose exec gateway sluicegate {_FIRST_KEY}",
        ),
        secrets="/run/secrets",
        is_plaintext=True,
    ),
    "compose-fleet": Target(
        "three gateways with one budget under Docker Compose, with their PostgreSQL and HAProxy in front",
        {**_IMAGE, "compose.yaml": "compose/fleet.yaml", "haproxy.cfg": "haproxy/fleet.cfg", "policy/policy.yaml": "policy.yaml"},
        (
            "cp /path/to/sluicegate-@VERSION@-*.whl .",
            "mkdir -p -m 0700 secrets ca",
            'printf %s "$ANTHROPIC_API_KEY" >secrets/anthropic',
            "openssl rand -hex 32 >secrets/admin-token",
            "openssl rand -hex 32 >secrets/store-password",
            "printf 'postgresql://sluicegate:%s@store/sluicegate?sslmode=disable' \"$(cat secrets/store-password)\" >secrets/store",
            "chmod 0400 secrets/*",
            "sudo chown -R 10001:10001 policy secrets ca",
            "docker compose up --detach --build --wait",
            "docker compose exec gateway-a sluicegate nodes list",
            f"docker compose exec gateway-a sluicegate {_FIRST_KEY}",
        ),
        secrets="/run/secrets",
        is_plaintext=True,
    ),
    "helm": Target(
        "a Helm chart for Kubernetes: one gateway with its volume, or several that share a PostgreSQL",
        {"sluicegate": "helm"},
        (
            "kubectl create namespace sluicegate",
            'kubectl --namespace sluicegate create secret generic sluicegate --from-literal=anthropic="$ANTHROPIC_API_KEY" '
            '--from-literal=admin-token="$(openssl rand -hex 32)"',
            "helm lint sluicegate",
            "helm --namespace sluicegate install sluicegate ./sluicegate --set image.repository=registry.example.com/sluicegate",
        ),
        secrets="/run/secrets",
        is_plaintext=True,
    ),
    "nginx": Target(
        "nginx in front: TLS for base URLs and dashboard, and by TCP for HTTPS_PROXY",
        {"sluicegate.conf": "nginx/sluicegate.conf", "sluicegate-stream.conf": "nginx/sluicegate-stream.conf"},
        (
            "sudo install -m 0644 sluicegate.conf /etc/nginx/conf.d/sluicegate.conf",
            "sudo install -m 0644 sluicegate-stream.conf /etc/nginx/sluicegate-stream.conf",
            "echo 'include /etc/nginx/sluicegate-stream.conf;' | sudo tee -a /etc/nginx/nginx.conf",
            "sudo nginx -t && sudo systemctl reload nginx",
        ),
    ),
    "caddy": Target(
        "Caddy in front: TLS for base URLs and dashboard",
        {"Caddyfile": "caddy/Caddyfile"},
        (
            "caddy validate --config Caddyfile",
            "sudo install -m 0644 Caddyfile /etc/caddy/Caddyfile",
            "sudo systemctl restart caddy",
        ),
    ),
    "haproxy": Target(
        "HAProxy in front: TLS for base URLs and dashboard, and by TCP for HTTPS_PROXY",
        {"haproxy.cfg": "haproxy/haproxy.cfg"},
        (
            "sudo install -m 0644 haproxy.cfg /etc/haproxy/haproxy.cfg",
            "sudo haproxy -c -f /etc/haproxy/haproxy.cfg && sudo systemctl reload haproxy",
        ),
    ),
}
"""By the name that ``sluicegate deploy`` takes."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A target's files for one site, ready to be written."""

    files: Mapping[str, str]
    """Their texts by the path below the folder they are written to."""
    next_commands: tuple[str, ...]


def prepare(name: str, site: Site) -> Deployment:
    """Return a target's files and commands, filled in for a site. Raises KeyError for an unknown target, SiteError, OSError."""
    target = TARGETS[name]
    if site.has_tls and not set(_TLS_COMMANDS) & set(target.next_commands):
        raise SiteError(f"--tls is for systemd: with {name}, TLS ends in front of the gateway")
    values = site.values(target.secrets, is_plaintext=target.is_plaintext)
    files = {path: fill_in(template.read_text(), values) for path, template in _templates(target)}
    commands = tuple(fill_in(c, values) for c in target.next_commands if site.has_tls or c not in _TLS_COMMANDS)
    return Deployment(files, commands)


def _templates(target: Target) -> Iterator[tuple[str, Path]]:
    """Yield the path of each file and its template, those of a folder one by one."""
    for path, name in target.files.items():
        template = paths.run_lock() if name == RUN_LOCK else paths.deploy_dir() / name
        if template.is_dir():
            for file in sorted(f for f in template.rglob("*") if f.is_file()):
                yield f"{path}/{file.relative_to(template)}", file
        else:
            yield path, template
