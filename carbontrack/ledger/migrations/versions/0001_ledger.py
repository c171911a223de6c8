"""The ledger: runs, nodes, devices, sensors, windows, steps, events.

Revision 0001, the first.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def json() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def run_key(*, primary_key: bool = True) -> sa.Column[int]:
    return sa.Column(
        "run_key",
        sa.Integer,
        sa.ForeignKey("runs.key", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


def device_key() -> sa.Column[int]:
    return sa.Column(
        "device_key", sa.Integer, sa.ForeignKey("devices.key"), primary_key=True, nullable=False
    )


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("key", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("project", sa.Text),
        sa.Column("tags", json(), nullable=False),
        sa.Column("command", json(), nullable=False),
        sa.Column("cwd", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("git_commit", sa.Text),
        sa.Column("git_dirty", sa.Boolean),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("exit_code", sa.Integer),
        sa.Column("facility", json(), nullable=False),
        sa.Column("model", json(), nullable=False),
        sa.CheckConstraint(
            "status in ('running','completed','failed','interrupted')", name="status"
        ),
    )
    op.create_index("ix_runs_name_started_ms", "runs", ["name", "started_ms"])
    op.create_index("ix_runs_started_ms", "runs", ["started_ms"])
    op.create_table(
        "nodes",
        run_key(),
        sa.Column("host", sa.Text, primary_key=True, nullable=False),
        sa.Column("boot_id", sa.Text),
        sa.Column("recorder_version", sa.Text, nullable=False),
        sa.Column("settings", json(), nullable=False),
        sa.Column("heartbeat_ms", sa.BigInteger, nullable=False),
        sa.Column("clock_offset_ms", sa.BigInteger),
    )
    op.create_table(
        "devices",
        sa.Column("key", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("uuid", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("rated_power_w", sa.Double),
        sa.Column("power_limit_w", sa.Double),
        sa.Column("mig_parent", sa.Text),
    )
    op.create_table(
        "sensors",
        run_key(),
        device_key(),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("quality", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("update_period_ms", sa.Double),
        sa.Column("share", sa.Double, nullable=False),
    )
    op.create_table(
        "windows",
        run_key(),
        sa.Column("level", sa.Integer, primary_key=True, nullable=False),
        device_key(),
        sa.Column("start_ms", sa.BigInteger, primary_key=True, nullable=False),
        sa.Column("energy_j", sa.Double),
        sa.Column("energy_s", sa.Double, nullable=False),
        sa.Column("sampled_s", sa.Double, nullable=False),
        sa.Column("samples", sa.Integer, nullable=False),
        sa.Column(
            "power_mean_w",
            sa.Double,
            sa.Computed("energy_j / nullif(energy_s, 0)", persisted=True),
        ),
        sa.Column("power_min_w", sa.Double),
        sa.Column("power_max_w", sa.Double),
        sa.Column("vitals", sa.Integer, nullable=False),
        sa.Column("util_pct", sa.Double),
        sa.Column("memory_max_bytes", sa.BigInteger),
        sa.Column("temperature_max_c", sa.Double),
        sa.Column("sm_clock_mhz", sa.Double),
        sa.Column("throttle", sa.BigInteger, nullable=False),
        sa.Column("flags", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "steps",
        run_key(),
        sa.Column("step", sa.BigInteger, primary_key=True, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("loss", sa.Double),
        sa.Column("lr", sa.Double),
        sa.Column("grad_norm", sa.Double),
        sa.Column("tokens", sa.BigInteger),
        sa.Column("tokens_per_s", sa.Double),
        sa.Column("extra", json(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "events",
        run_key(),
        sa.Column("time_ms", sa.BigInteger, primary_key=True, nullable=False),
        sa.Column("seq", sa.Integer, primary_key=True, nullable=False),
        sa.Column("host", sa.Text),
        sa.Column("device_uuid", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("data", json(), nullable=False),
    )
