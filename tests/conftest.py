"""Shared fixtures: a fake provider, and gateways that are always ended."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluicegate.logs import reading
from sluicegate.policy.loader import revision_of
from support import fork_server, forms, pytest_worker
from support import postgres as postgres_server
from support.api import POLICY, Api
from support.fake_provider import FakeProvider
from support.harness import WAIT_S, Gateway, eventually, policy_text
from support.hypothesis_profiles import load_profile
from support.isolation import pytest_runtest_setup, pytest_runtest_teardown  # noqa: F401 hooks of this file too
from support.scheduling import Scheduling, rank
from support.worker_reports import pytest_runtest_protocol  # noqa: F401 a hook of this file too

load_profile()
# On a busy machine a query waits for its index rather than being refused; tests of the refusal set their own.
reading.INDEX_TIMEOUT_S = WAIT_S


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the long forms of the tests."""
    parser.addoption("--long", action="store_true", help="run every test in its long form, which takes most of an hour")


@pytest.fixture(scope="session")
def is_long(request: pytest.FixtureRequest) -> bool:
    """Return whether the long form is run."""
    return bool(request.config.getoption("--long"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return twice as many workers as processors: a test waits for gateways and clients about as long as it computes."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the tests of the form that is run, and put the longest first."""
    forms.choose(config, items)
    items.sort(key=rank)


def pytest_configure(config: pytest.Config) -> None:
    """Name a folder in which all workers find the servers that fork gateways."""
    if fork_server.FOLDER_VARIABLE not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="sluicegate-forks-")
        os.environ[fork_server.FOLDER_VARIABLE] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note what a worker has left out; all have collected the same."""
    node.config.stash[forms.COUNT] = getattr(node, "workeroutput", {}).get(forms.LEFT_OUT, 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what workers have left out; pytest itself says it where there are none."""
    if count := config.stash.get(forms.COUNT, 0):
        terminalreporter.write_line(f"{count} cases are in the long form alone, see --long")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Spare the garbage collector what is imported and collected: a million objects, most of which stay to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Import the tests once and fork all workers from there; to measure coverage, each has to run them from its start."""
    if "COVERAGE_PROCESS_START" not in os.environ:
        pytest_worker.use_forks(config.invocation_params.args, specs)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Distribute tests by file, in their order."""
    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Make and start gateways; end them after the test."""
    running: list[Gateway] = []

    def make(policy: str | Path | None = None, *options: str, start: bool = True, **more: Any) -> Gateway:
        folder = tmp_path / f"gateway-{len(running)}"
        folder.mkdir()
        made = Gateway(folder, policy_text() if policy is None else policy, *options, **more)
        running.append(made)
        return made.start(wait=start)

    yield make
    for made in running:
        made.discard()


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Yield the API of one gateway for all tests of a module; what it has counted and recorded stays from one to the next."""
    with Gateway(tmp_path_factory.mktemp("company"), POLICY) as gw:
        yield Api(gw)


@pytest.fixture
def api(company: Api) -> Api:
    """Return that API with the policy restored."""
    file = company.gw.policy
    if file.read_text() != POLICY:
        company.gw.govern(POLICY)
        wanted = revision_of({file: POLICY.encode()})
        eventually(lambda: company.ok("GET", "/api/config")["policy"]["revision"] == wanted)
    return company


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Postgres]:
    """Return the run's PostgreSQL, started for the first test of any worker that needs it."""
    if (why := postgres_server.missing()) is not None:
        pytest.skip(why)
    with postgres_server.shared_server(Path(os.environ[fork_server.FOLDER_VARIABLE]) / "postgres") as server:
        yield server


@pytest.fixture
def postgres_url(postgres: postgres_server.Postgres) -> Iterator[str]:
    """Return the URL of an empty database."""
    with postgres.database() as url:
        yield url


@pytest.fixture
def postgres_schema_url(postgres: postgres_server.Postgres) -> Iterator[str]:
    """Return a URL with an empty schema, for what looks at its own tables alone; it costs less than a database."""
    with postgres.schema() as url:
        yield url
