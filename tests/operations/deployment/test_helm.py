"""The Helm chart, rendered by Helm: what comes out is what Kubernetes takes, and values that mean nothing are refused."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from sluicegate.operations.deployment.site import Site
from sluicegate.operations.deployment.targets import prepare
from sluicegate.policy.loader import load

ROOT = Path(__file__).resolve().parents[3]
HELM = ROOT / ".cache" / "helm" / "helm"
KUBERNETES = json.loads((ROOT / "tests/data/schemas/kubernetes-1.37.json").read_text())


@pytest.fixture(scope="module")
def chart(tmp_path_factory):
    if not HELM.exists():
        failed = HELM.with_name("failed")
        pytest.skip(f"helm is missing: {failed.read_text().strip() if failed.exists() else 'run scripts/test-tools'}")
    folder = tmp_path_factory.mktemp("chart")
    for path, text in prepare("helm", Site("llm.acme.example", 9090)).files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder / "sluicegate"


def helm(chart, *arguments):
    env = {"PATH": os.environ["PATH"], "HOME": str(chart.parent)}
    return subprocess.run([str(HELM), *arguments], cwd=chart.parent, env=env, capture_output=True, text=True, timeout=120)


def render(chart, *settings):
    """Return what an installation under the name ``gw`` would create, by kind."""
    done = helm(chart, "template", "gw", str(chart), *(x for s in settings for x in ("--set", s)))
    assert done.returncode == 0, done.stderr
    made = [x for x in yaml.safe_load_all(done.stdout) if x]
    assert len({x["kind"] for x in made}) == len(made)
    return {x["kind"]: x for x in made}


def check(made):
    """Compare each object with Kubernetes' own schema, which knows no field that is not in it."""
    for kind, value in made.items():
        if kind != "ServiceMonitor":
            jsonschema_rs.validate({**KUBERNETES["kinds"][kind], "definitions": KUBERNETES["definitions"]}, value)


def test_helm_has_nothing_to_say_of_the_chart(chart):
    linted = helm(chart, "lint", "--strict", str(chart))
    assert (linted.returncode, "1 chart(s) linted, 0 chart(s) failed" in linted.stdout) == (0, True), linted.stdout


def test_what_the_chart_makes_is_what_kubernetes_takes(chart, tmp_path):
    plain = render(chart)
    assert set(plain) == {"Deployment", "Service", "ConfigMap", "PersistentVolumeClaim", "ServiceAccount", "NetworkPolicy"}
    check(plain)
    wrong = json.loads(json.dumps(plain["Deployment"]).replace("readOnlyRootFilesystem", "readonlyRootFilesystem"))
    with pytest.raises(jsonschema_rs.ValidationError):
        check({"Deployment": wrong})
    (tmp_path / "policy.yaml").write_text(plain["ConfigMap"]["data"]["policy.yaml"])
    loaded = load(tmp_path / "policy.yaml", env={}, now=0)
    assert (loaded.server.hosts, loaded.server.allow_plaintext, loaded.egress.require_key) == (("llm.acme.example",), True, True)


def test_one_gateway_at_a_time_without_rights_and_probed_for_health(chart):
    spec = render(chart)["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert (pod["securityContext"]["runAsUser"], pod["automountServiceAccountToken"]) == (10001, False)
    environment = {x["name"]: x["value"] for x in container["env"]}
    mounts = {x["mountPath"] for x in container["volumeMounts"]}
    for path in environment.values():
        assert any(Path(path).is_relative_to(mount) for mount in mounts), path
    assert {x["name"] for x in container["volumeMounts"]} == {x["name"] for x in pod["volumes"]}


def test_settings_change_what_they_name(chart):
    made = render(
        chart,
        "existingSecret=",
        "secrets.admin-token=0123456789abcdef",
        "secrets.anthropic=sk-ant-real",
        "serviceMonitor.enabled=true",
        "serviceMonitor.tokenKey=viewer-token",
        "persistence.enabled=false",
        "networkPolicy.enabled=false",
        "ingress.enabled=true",
        "ingress.host=ai.acme.example",
        "service.port=9999",
        "env[0].name=HTTPS_PROXY",
        "env[0].value=http://proxy.acme.example:3128",
    )
    check(made)
    assert set(made) == {"Deployment", "Service", "ConfigMap", "ServiceAccount", "Secret", "ServiceMonitor", "Ingress"}
    (rule,) = made["Ingress"]["spec"]["rules"]
    assert (rule["host"], made["Ingress"]["spec"]["tls"][0]["hosts"]) == ("ai.acme.example", ["ai.acme.example"])
    assert made["Ingress"]["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    secret = {name: base64.b64decode(value).decode() for name, value in made["Secret"]["data"].items()}
    assert secret == {"admin-token": "0123456789abcdef", "anthropic": "sk-ant-real"}
    (endpoint,) = made["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "gw-sluicegate", "key": "viewer-token"}
    assert made["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= made["Service"]["metadata"]["labels"].items()
    pod = made["Deployment"]["spec"]["template"]["spec"]
    assert "9999" in pod["containers"][0]["args"]
    assert pod["containers"][0]["env"][-1] == {"name": "HTTPS_PROXY", "value": "http://proxy.acme.example:3128"}
    assert [x["secret"]["secretName"] for x in pod["volumes"] if "secret" in x] == ["gw-sluicegate"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replicas=3", "additional properties 'replicas' not allowed"),
        ("service.port=80", "minimum: got 80, want 1,024"),
        ("policy=", "does not match pattern"),
        ("existingSecret=", "secrets needs an admin-token"),
    ],
)
def test_settings_that_mean_nothing_are_refused(chart, setting, words):
    done = helm(chart, "template", "gw", str(chart), "--set", setting)
    assert done.returncode == 1
    assert words in done.stderr
