"""Which test files start first: a worker that takes the longest file last leaves the other one with nothing to do."""

from __future__ import annotations

from collections import defaultdict

import pytest

ORDER = (
    # these two first: on a new machine the one builds Kubernetes, and the other does not need it
    "test_remove.py",
    "test_containerd_runtime.py",
    "test_verify.py",
    "test_toolkit_apt.py",
    "test_docker_runtime.py",
    "test_chain.py",
    "test_devices.py",
    "test_crio.py",
    "test_newest.py",
    "test_driver_access.py",
    "test_driver_check.py",
    "test_toolkit_dnf.py",
    "test_toolkit_zypper.py",
    "test_agent.py",
    "test_toolkit_cdi.py",
    "test_leak.py",
    "test_toolkit_modes.py",
    "test_metrics.py",
    "test_report.py",
)
"""The files, those that take longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the tests of a file in their order; a file that is not in ORDER comes before all others."""
    places = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(item.path.name, -1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long each file took, by which ORDER is kept right."""
    seconds: dict[str, float] = defaultdict(float)
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid.partition("::")[0].rpartition("/")[2]] += report.duration
    terminalreporter.section("seconds by file")
    for name, total in sorted(seconds.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{total:6.0f} {name}")
