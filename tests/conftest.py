"""Fixtures that every part of the suite shares."""

from __future__ import annotations

from tests.fixtures.command import command  # noqa: F401
from tests.fixtures.nvml import *  # noqa: F403
from tests.fixtures.postgres import *  # noqa: F403
from tests.fixtures.wrap import until, wrapper  # noqa: F401
