"""How hard the tests search, and which of them make quick leaves out.

Everyday runs take a third of Hypothesis' examples, CI (where CI is set) takes all, and
``--hypothesis-profile quick`` a few.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# a busy machine is no failure
settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("everyday", settings.get_profile("ci"), max_examples=33)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=5)
settings.load_profile("ci" if os.environ.get("CI") else "everyday")

HERE = Path(__file__).parent

SLOW = (
    "cluster",
    "devplugin/agent/test_agent.py",
    "devplugin/test_supervision.py",
    "devplugin/config/test_named_configs.py",
    "devplugin/test_daemon.py",
    "devplugin/kubelet/test_fuzz.py",
    "devplugin/health/test_recovery.py",
    "devplugin/nvml/test_sweep.py",
    "playbooks",
    "plugins/module_utils/gpu/test_gpu_check.py",
    "plugins/module_utils/gpu/test_sources_agree.py",
    "plugins/module_utils/gpu/test_sweep.py",
    "plugins/module_utils/runtime_config",
    "plugins/modules",
    "plugins/report/test_report.py",
    "roles",
    "sim",
)
"""Files and folders whose tests start processes, or search for long with numbers of examples of their own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what stands in SLOW."""
    slow = [HERE / name for name in SLOW]
    for item in items:
        if any(place == item.path or place in item.path.parents for place in slow):
            item.add_marker(pytest.mark.slow)


def pytest_sessionstart() -> None:
    missing = [name for name in SLOW if not (HERE / name).exists()]
    if missing:
        raise pytest.UsageError(f"tests/unit/conftest.py names what is not there: {', '.join(missing)}")
