"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

from tests.fixtures.command import command  # noqa: F401
from tests.fixtures.nvml import *  # noqa: F403
from tests.fixtures.postgres import *  # noqa: F403
from tests.fixtures.wrap import until, wrapper  # noqa: F401

# A shell starts background jobs with some of these ignored, and nohup another; what the tests start
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# How long an example takes, or how many can be made in a second, says something of the machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
