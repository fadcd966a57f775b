"""The pytest plugin: fixtures `lab`, `node` and `subtest`.

    hostlab_lab = "shop.yaml"          # or the description itself, or @pytest.mark.hostlab(…)

    def test_shop(lab):
        lab["web"].wait_for_open_port(80)

    @pytest.mark.hostlab_nodes(role="web")
    def test_release(node):
        assert "7.2" in node.succeed("cat /etc/release")

A lab is staged once for its scope (`module`), and set back after each test (`testing.shared`). Each
pytest process has labs of its own names, so runs, and xdist's workers, do not meet.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from hostlab.api import Lab, Node
    from hostlab.testing.labs import Labs

NAME: Final = "hostlab-labs"
MARKERS: Final = (
    "hostlab(description, *, scope='module', reset='undo'): the lab of a test.",
    "hostlab_nodes(*hosts, role=None): the nodes that `node` goes through.",
)
Subtest = Callable[[str], contextlib.AbstractContextManager[None]]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hostlab")
    group.addoption(
        "--hostlab-lab", metavar="FILE", help="The description for tests that name none."
    )
    group.addoption(
        "--hostlab-keep",
        action="store_true",
        help="Leave the lab of a failed test up, and say how to enter it.",
    )
    group.addoption(
        "--hostlab-host", action="append", default=[], metavar="GLOB", help="Only these nodes."
    )
    group.addoption(
        "--hostlab-role", action="append", default=[], metavar="ROLE", help="Only nodes with it."
    )
    parser.addini(
        "hostlab_lab", "The description for tests that name none; relative to the ini file."
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    if "testinfra" in sys.modules:
        from hostlab.testing.testinfra_hosts import register

        register()


def _labs(config: pytest.Config) -> Labs:
    """The labs of this process; loaded when the first test wants one, as most runs have none."""
    found: Labs | None = config.pluginmanager.get_plugin(NAME)
    if found is None:
        from hostlab.testing.labs import Labs

        found = Labs(config)
        config.pluginmanager.register(found, NAME)
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with `node` is one test a node."""
    if "node" in metafunc.fixturenames:
        names = _labs(metafunc.config).nodes_for(metafunc.definition)
        metafunc.parametrize("node", names, indirect=True, ids=names)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a test's own line as the last one before what hostlab tells; --full-trace all."""
    if call.excinfo is not None and not item.config.getoption("fulltrace"):
        from hostlab.testing.failures import shorten

        shorten(call.excinfo.value)
    return (yield)


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The running lab that the test's marker, module or configuration names."""
    with _labs(request.config).lent(request.node) as shared:
        yield shared.lab


@pytest.fixture
def node(request: pytest.FixtureRequest, lab: Lab) -> Node:
    """Each node in turn, or those that `hostlab_nodes` names."""
    return lab[request.param]


@pytest.fixture
def subtest() -> Subtest:
    """`with subtest("reboots"): …`: what fails in it says so."""

    @contextlib.contextmanager
    def named(name: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # pytest.fail's is no Exception
            error.add_note(f"in subtest: {name}")
            raise

    return named
