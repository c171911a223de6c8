"""The ledger, as its first release has it.

Revision 1001, the first.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from carbontrack.ledger.migrations import server_1001

revision = "1001"
down_revision = None
branch_labels = None
depends_on = None


def json() -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def array(of: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    return sa.JSON().with_variant(postgresql.ARRAY(of), "postgresql")


def of(name: str, key: str, *, primary_key: bool = False) -> sa.Column[int]:
    """The key of a row that this one is part of, and goes with."""
    return sa.Column(
        name,
        sa.Integer,
        sa.ForeignKey(key, ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("key", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("project", sa.Text),
        sa.Column("tags", json(), nullable=False),
        sa.Column("command", json(), nullable=False),
        sa.Column("cwd", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("git_commit", sa.Text),
        sa.Column("git_dirty", sa.Boolean),
        sa.Column("scheduler", sa.Text),
        sa.Column("cluster", sa.Text),
        sa.Column("job_id", sa.Text),
        sa.Column("array_index", sa.Integer),
        sa.Column("account", sa.Text),
        sa.Column("partition", sa.Text),
        sa.Column("nodes_expected", sa.Integer),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("facility", json(), nullable=False),
        sa.Column("model", json(), nullable=False),
        sa.CheckConstraint("kind in ('job','watch','imported','stated')", name="kind"),
    )
    op.create_index("ix_runs_name_started_ms", "runs", ["name", "started_ms"])
    op.create_index("ix_runs_started_ms", "runs", ["started_ms"])
    op.create_table(
        "recordings",
        sa.Column("key", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        of("run_key", "runs.key"),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("boot_id", sa.Text),
        sa.Column("restart", sa.Integer, nullable=False),
        sa.Column("recorder_version", sa.Text, nullable=False),
        sa.Column("settings", json(), nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("exit_code", sa.Integer),
        sa.Column("heartbeat_ms", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "status in ('running','completed','failed','interrupted')", name="status"
        ),
    )
    op.create_index("ix_recordings_run_key", "recordings", ["run_key"])
    op.create_table(
        "clocks",
        of("recording_key", "recordings.key", primary_key=True),
        sa.Column("time_ms", sa.BigInteger, primary_key=True, nullable=False),
        sa.Column("offset_ms", sa.BigInteger, nullable=False),
        sa.Column("error_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "devices",
        sa.Column("key", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("uuid", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("mig_parent", sa.Text),
    )
    op.create_table(
        "sensors",
        sa.Column("key", sa.Integer, primary_key=True, autoincrement=True),
        of("recording_key", "recordings.key"),
        sa.Column("device_key", sa.Integer, sa.ForeignKey("devices.key"), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("rated_power_w", sa.Double),
        sa.Column("power_limit_w", sa.Double),
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("quality", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("update_period_ms", sa.Double),
        sa.Column("share", sa.Double, nullable=False),
        sa.UniqueConstraint("recording_key", "device_key"),
    )
    op.create_index("ix_sensors_device_key", "sensors", ["device_key"])
    if op.get_bind().dialect.name == "postgresql":
        schema = op.get_bind().scalar(sa.text("select current_schema()"))
        for statement in server_1001.statements(schema):
            op.execute(statement)
    else:
        create_windows()
    op.create_table(
        "steps",
        of("recording_key", "recordings.key", primary_key=True),
        sa.Column("restart", sa.Integer, primary_key=True, nullable=False),
        sa.Column("step", sa.BigInteger, primary_key=True, nullable=False),
        sa.Column("rank", sa.Integer),
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
        of("recording_key", "recordings.key", primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("host", sa.Text),
        sa.Column("device_uuid", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("data", json(), nullable=False),
    )
    op.create_table(
        "stated",
        of("run_key", "runs.key", primary_key=True),
        sa.Column("device_name", sa.Text, primary_key=True, nullable=False),
        sa.Column("devices", sa.Integer),
        sa.Column("device_hours", sa.Double),
        sa.Column("power_w", sa.Double),
        sa.Column("energy_kwh", sa.Double),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("started_ms", sa.BigInteger),
        sa.Column("ended_ms", sa.BigInteger),
    )
    op.create_table(
        "overlaps",
        of("sensor_key", "sensors.key", primary_key=True),
        sa.Column("start_ms", sa.BigInteger, primary_key=True, nullable=False),
        sa.Column("energy_j", sa.Double, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "amendments",
        sa.Column("id", sa.Text, primary_key=True, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("before", json(), nullable=False),
        sa.Column("after", json(), nullable=False),
    )
    op.create_index("ix_amendments_run_id", "amendments", ["run_id"])
    op.create_table(
        "tombstones",
        sa.Column("run_id", sa.Text, primary_key=True, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("project", sa.Text),
    )
    op.create_table(
        "shipped_tombstones",
        sa.Column(
            "run_id",
            sa.Text,
            sa.ForeignKey("tombstones.run_id", ondelete="CASCADE"),
            primary_key=True,
            nullable=False,
        ),
        sa.Column("target", sa.Text, primary_key=True, nullable=False),
    )
    op.create_table(
        "imports",
        sa.Column("sha256", sa.Text, primary_key=True, nullable=False),
        of("run_key", "runs.key", primary_key=True),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("tz", sa.Text),
        sa.Column("first_row", sa.BigInteger, nullable=False),
        sa.Column("last_row", sa.BigInteger, nullable=False),
        sa.Column("rejected_rows", sa.BigInteger, nullable=False),
        sa.Column("notes", json(), nullable=False),
        sa.Column("facts", json(), nullable=False),
    )
    op.create_index("ix_imports_run_key", "imports", ["run_key"])
    op.create_table(
        "watermarks",
        of("recording_key", "recordings.key", primary_key=True),
        sa.Column("target", sa.Text, primary_key=True, nullable=False),
        sa.Column("seconds_ms", sa.BigInteger, nullable=False),
        sa.Column("minutes_ms", sa.BigInteger, nullable=False),
        sa.Column("hours_ms", sa.BigInteger, nullable=False),
        sa.Column("steps_ms", sa.BigInteger, nullable=False),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("late", sa.Integer, nullable=False),
        sa.Column("shipped_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "late_minutes",
        of("recording_key", "recordings.key", primary_key=True),
        sa.Column("sensor_key", sa.Integer, primary_key=True, nullable=False),
        sa.Column("start_ms", sa.BigInteger, primary_key=True, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "live",
        of("recording_key", "recordings.key", primary_key=True),
        sa.Column("heard_ms", sa.BigInteger, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("sensor_keys", array(sa.Integer()), nullable=False),
        sa.Column("power_w", array(sa.REAL()), nullable=False),
        sa.Column("energy_j", array(sa.Double()), nullable=False),
        sa.Column("util_pct", array(sa.REAL()), nullable=False),
        postgresql_with={"fillfactor": 50},  # room for the next row beside the old one
    )
    op.create_table(
        "tokens",
        sa.Column("hash", sa.Text, primary_key=True, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("made_ms", sa.BigInteger, nullable=False),
        sa.Column("revoked_ms", sa.BigInteger),
    )
    op.create_table(
        "intensity",
        sa.Column("zone", sa.Text, primary_key=True, nullable=False),
        sa.Column("start_ms", sa.BigInteger, primary_key=True, nullable=False),
        sa.Column("version", sa.Text, primary_key=True, nullable=False),
        sa.Column("length_ms", sa.BigInteger, nullable=False),
        sa.Column("intensity_kg_per_kwh", sa.Double, nullable=False),
        sa.Column("basis", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
    )
    op.create_table(
        "prices",
        sa.Column("book", sa.Text, primary_key=True, nullable=False),
        sa.Column("key", sa.Text, primary_key=True, nullable=False),
        sa.Column("version", sa.Text, primary_key=True, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("price", sa.Double, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("as_of", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.CheckConstraint("unit in ('gpu_hour','kwh')", name="unit"),
    )


def create_windows() -> None:
    op.create_table(
        "windows",
        of("recording_key", "recordings.key", primary_key=True),
        sa.Column("level", sa.Integer, primary_key=True, nullable=False),
        sa.Column("start_ms", sa.BigInteger, primary_key=True, nullable=False),
        sa.Column("sensor_key", sa.Integer, primary_key=True, nullable=False),
        sa.Column("energy_j", sa.Double),
        sa.Column("energy_s", sa.Double, nullable=False),
        sa.Column("sampled_s", sa.Double, nullable=False),
        sa.Column("samples", sa.Integer, nullable=False),
        sa.Column(
            "power_mean_w",
            sa.Double,
            sa.Computed("energy_j / nullif(energy_s, 0)", persisted=False),
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
