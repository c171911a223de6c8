"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.fixtures.command import command  # noqa: F401
from tests.fixtures.nodes import nodes  # noqa: F401
from tests.fixtures.nvml import *  # noqa: F403
from tests.fixtures.postgres import *  # noqa: F403
from tests.fixtures.tools import OF_THE_MACHINE
from tests.fixtures.wrap import PATIENCE_S, until, wrapper  # noqa: F401

# A shell starts background jobs with some of these ignored, and nohup another; what the tests start
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# A parallel run of the tests has a width of its own, to which a table would be fitted.
os.environ.pop("COLUMNS", None)

# What starts a recorder waits for its last rows, however busy the machine is.
os.environ["CARBONTRACK_GRACE_S"] = str(PATIENCE_S)

# How long an example takes, or how many can be made in a second, says something of the machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _no_skip_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _no_skip_in_ci((yield))


def _no_skip_in_ci(report: Any) -> Any:
    """In CI a test has failed that was skipped for want of something that can be installed."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr
        if OF_THE_MACHINE not in reason:
            report.outcome, report.longrepr = "failed", f"nothing is skipped in CI: {reason}"
    return report
