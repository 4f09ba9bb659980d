"""The Helm chart, rendered by Helm: what comes out is what Kubernetes takes, and values that mean nothing are refused."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from sluicegate.fleet.node import VARIABLE as NODE
from sluicegate.fleet.node import node_name
from sluicegate.operations.deployment.site import Site
from sluicegate.operations.deployment.targets import prepare
from sluicegate.paths import AUTHORITY
from sluicegate.policy.loader import load
from sluicegate.policy.store_address import VARIABLE as STORE
from sluicegate.policy.store_address import store_of

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


def test_several_gateways_are_pods_with_names_volumes_and_a_store(chart, tmp_path):
    made = render(chart, "replicas=3", "store.secretKey=store-url", "store.port=6432", "authority.existingSecret=sluicegate-ca")
    assert set(made) == {
        "StatefulSet", "Service", "ConfigMap", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget",
    }  # fmt: skip
    check(made)
    spec, one = made["StatefulSet"]["spec"], render(chart)["Deployment"]["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"], spec["serviceName"]) == (
        3,
        "Parallel",
        made["Service"]["metadata"]["name"],
    )
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    environment = {x["name"]: x for x in container["env"]}
    # The URL with its password is a file of the Secret, and a name that stays is each pod's own.
    assert environment["SLUICEGATE_STORE"]["value"] == "file:/run/secrets/store-url"
    assert environment["SLUICEGATE_NODE"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert set(environment) <= {
        "SLUICEGATE_STORE",
        "SLUICEGATE_NODE",
        *(x["name"] for x in one["template"]["spec"]["containers"][0]["env"]),
    }
    assert node_name({NODE: "gw-sluicegate-0"}) == "gw-sluicegate-0"
    (tmp_path / "store-url").write_text("postgresql://sluicegate:secret@db.example.com/sluicegate")
    assert store_of(None, None, {STORE: f"file:{tmp_path}/store-url"}).password == "secret"
    assert {STORE, NODE} < set(environment)
    # What is mounted is there, and the state folder is on the claim.
    mounted = {x["name"]: x["mountPath"] for x in container["volumeMounts"]}
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "state"
    assert set(mounted) | {"authority"} == {x["name"] for x in pod["volumes"]} | {"state"}
    assert Path(environment["SLUICEGATE_STATE"]["value"]).is_relative_to(mounted["state"])
    assert {k: v for k, v in container.items() if k != "env"} == {
        k: v for k, v in one["template"]["spec"]["containers"][0].items() if k != "env"
    }
    assert made["PodDisruptionBudget"]["spec"]["selector"] == spec["selector"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert 6432 in [x["port"] for rule in made["NetworkPolicy"]["spec"]["egress"] for x in rule["ports"]]
    # One gateway with a store keeps its kind, so that its volume stays.
    assert "Deployment" in render(chart, "store.secretKey=store-url")


def test_each_gateway_gets_the_authority_of_all_and_keeps_what_it_has(chart, tmp_path):
    made = render(chart, "replicas=2", "store.secretKey=store-url", "authority.existingSecret=sluicegate-ca")
    (init,) = made["StatefulSet"]["spec"]["template"]["spec"]["initContainers"]
    given, state = tmp_path / "given", tmp_path / "volume"
    given.mkdir()
    state.mkdir()
    (given / "mitmproxy-ca.pem").write_text("the fleet's")
    (given / "..data").mkdir()
    (mount,) = (x["mountPath"] for x in init["volumeMounts"] if x["name"] == "state")
    program, _, code = init["command"]
    code = code.replace("/run/authority", str(given)).replace(mount, str(state))
    for text in ("the fleet's", "its own"):
        done = subprocess.run([shutil.which(program) or sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        kept = state / "state" / AUTHORITY / "mitmproxy-ca.pem"
        assert (kept.read_text(), kept.stat().st_mode & 0o777) == (text, 0o600)
        kept.write_text("its own")


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
        ("replicas=0", "minimum: got 0, want 1"),
        ("replicas=3", "name by store.secretKey the key of its URL in the Secret"),
        ("replicas=3,store.secretKey=store,persistence.enabled=false", "several replicas keep a volume each"),
        ("replicas=3,store.secretKey=store,persistence.existingClaim=mine", "several replicas keep a volume each"),
        ("service.port=80", "minimum: got 80, want 1,024"),
        ("policy=", "does not match pattern"),
        ("existingSecret=", "secrets needs an admin-token"),
    ],
)
def test_settings_that_mean_nothing_are_refused(chart, setting, words):
    done = helm(chart, "template", "gw", str(chart), "--set", setting)
    assert done.returncode == 1
    assert words in done.stderr
