"""docs/install.md: its commands work as typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sluicegate import __version__
from sluicegate.cli.main import app
from sluicegate.operations.deployment.site import Site
from sluicegate.operations.deployment.targets import TARGETS, prepare
from support.command import CliRunner

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs/install.md").read_text()
UV = Path(sys.executable).with_name("uv")


def section(title):
    """Return the commands below a heading."""
    text = re.split(r"^## ", PAGE.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def run_lines(lines, tmp_path):
    """Run lines of a shell in the checkout, without a network: what they need has been installed here before."""
    env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | {
        "PATH": f"{tmp_path}/bin:{UV.parent}:{os.environ['PATH']}",
        "UV_OFFLINE": "1",
        **({"UV_DEFAULT_INDEX": os.environ["PIP_INDEX_URL"]} if "PIP_INDEX_URL" in os.environ else {}),
        "UV_PYTHON": sys.executable,
        "UV_TOOL_DIR": f"{tmp_path}/tools",
        "UV_TOOL_BIN_DIR": f"{tmp_path}/bin",
    }
    done = subprocess.run(["bash", "-ec", "\n".join(lines)], env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if "network was disabled" in done.stderr.replace("\n", " ") or "not found in the cache" in done.stderr:
        pytest.skip(f"uv has not kept what was installed, so it would need a network: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_lines_for_pip_install_a_gateway_with_all_extras(tmp_path):
    """By uv, which takes the same options in a tenth of the processor time, into another folder."""
    folder = tmp_path / "sluicegate"
    lines = section("With pip")
    assert [line.split()[1:3] for line in lines[1:3]] == [["install", "--require-hashes"], ["install", "--no-deps"]]
    by_uv = f"uv pip install --quiet --python {folder}/bin/python"
    lines = [
        line.replace("python3 -m venv ", "uv venv --quiet ").replace("/opt/sluicegate/bin/pip install", by_uv) for line in lines
    ]
    lines = [line.replace("/opt/sluicegate", str(folder)) for line in lines]
    assert re.findall(r"```sh\n(.*?)```", README.partition("\n## Install\n")[2], re.DOTALL)[0].splitlines() == section("With pip")
    said = run_lines([*lines, f"uv pip check --quiet --python {folder}/bin/python"], tmp_path)
    assert said == f"sluicegate {__version__}\n"
    (site,) = folder.glob("lib/*/site-packages")
    for extra in ("botocore", "google/auth", "opentelemetry/proto/collector", "psycopg_binary"):
        assert (site / extra).is_dir()
    ours, its = (
        {str(p.relative_to(f)) for p in f.rglob("*") if p.is_file()} for f in (ROOT / "deploy", site / "sluicegate/deploy")
    )
    ours -= {path for path in ours if path.startswith(("grafana/", "prometheus/", "wheel.py", "__pycache__/"))}
    assert its == ours | {"constraints-run.txt"}


@pytest.mark.long
def test_the_lines_for_uv_install_the_command(tmp_path):
    assert run_lines(section("With uv"), tmp_path) == f"sluicegate {__version__}\n"


def test_every_target_is_on_the_page_and_its_line_writes_it(tmp_path):
    lines = [shlex.split(line) for line in re.findall(r"^(sluicegate deploy .*)$", PAGE, re.MULTILINE)]
    assert sorted(words[2] for words in lines if "--tls" not in words) == sorted(TARGETS)
    for words in lines:
        where = words.index("--output") + 1
        done = CliRunner().invoke(app, [*words[1:where], str(tmp_path / words[where]), *words[where + 1 :]])
        assert done.exit_code == 0, done.stderr
        assert any((tmp_path / words[where]).iterdir())


def test_the_page_names_what_there_is():
    assert set(re.findall(r"\(#([\w-]+)\)", PAGE)) <= {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    }
    others = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    tried = {*section("With pip"), *section("With uv"), *(line for line in others if line.startswith("sluicegate deploy"))}
    # TLS on the port is tried in tests/wire/test_tls_port.py.
    tried |= {line for line in others if line.startswith("sluicegate serve --tls-cert ")}
    # What the unit itself sets.
    set_by_unit = re.findall(
        r"^Environment=(SLUICEGATE_(?:POLICY|STATE)=.*)$", prepare("systemd", Site()).files["sluicegate.service"], re.M
    )
    tried |= {f"export {line}" for line in set_by_unit}
    assert [line for line in others if line not in tried] == ["python3 -m pip wheel --no-deps --wheel-dir dist ."]
