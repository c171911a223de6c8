"""The ledger's schema, as SQLAlchemy typed models. Tests hold `tables.py` and `migrations/` to it.

Runs and devices are known by UUID wherever people or ledgers meet, and by a small integer key
inside the long tables. Times are integer ms since the epoch, UTC;
energy is in J and power in W, before PUE: nothing about carbon or money is decided here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    REAL,
    BigInteger,
    CheckConstraint,
    Computed,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from carbontrack.vocabulary import PriceUnit, RunKind, Status


class Json(TypeDecorator[Any]):
    """JSON, on PostgreSQL as JSONB; whose dialect costs 40 ms to import, so only there."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON())
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())


class Array(TypeDecorator[Any]):
    """Numbers in a row, some of them NULL: an array of PostgreSQL's, in SQLite JSON."""

    impl = JSON
    cache_ok = True

    def __init__(self, of: TypeEngine[Any]) -> None:
        super().__init__()
        self.of = of

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON())
        from sqlalchemy.dialects.postgresql import ARRAY

        return dialect.type_descriptor(ARRAY(self.of))


class Base(DeclarativeBase):
    """Every constraint has a name from the first revision on, so that a migration can drop it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a class attribute
        int: BigInteger(),
        float: Double(),
        str: Text(),
        dict[str, Any]: Json(),
        list[str]: Json(),
    }


def _listed(words: type[StrEnum]) -> str:
    return ",".join(f"'{word}'" for word in words)


class Run(Base):
    """One job, with what is said of it. How it stands and when it ended: see its recordings."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(f"kind in ({_listed(RunKind)})", name="kind"),
        Index("ix_runs_name_started_ms", "name", "started_ms"),
        Index("ix_runs_started_ms", "started_ms"),
    )

    key: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    name: Mapped[str]
    project: Mapped[str | None]
    tags: Mapped[dict[str, Any]]
    command: Mapped[list[str]]
    cwd: Mapped[str]
    user: Mapped[str]
    git_commit: Mapped[str | None]
    git_dirty: Mapped[bool | None]
    scheduler: Mapped[str | None]
    cluster: Mapped[str | None]
    job_id: Mapped[str | None]
    array_index: Mapped[int | None] = mapped_column(Integer)
    account: Mapped[str | None]
    partition: Mapped[str | None]
    nodes_expected: Mapped[int | None] = mapped_column(Integer)
    started_ms: Mapped[int]
    facility: Mapped[dict[str, Any]]
    model: Mapped[dict[str, Any]]


class Recording(Base):
    """One recorder on one host, with its heartbeat: a run has one of each node and attempt."""

    __tablename__ = "recordings"
    __table_args__ = (CheckConstraint(f"status in ({_listed(Status)})", name="status"),)

    key: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    run_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("runs.key", ondelete="CASCADE"), index=True
    )
    host: Mapped[str]
    boot_id: Mapped[str | None]
    restart: Mapped[int] = mapped_column(Integer)
    recorder_version: Mapped[str]
    settings: Mapped[dict[str, Any]]
    started_ms: Mapped[int]
    ended_ms: Mapped[int | None]
    status: Mapped[str]
    exit_code: Mapped[int | None] = mapped_column(Integer)
    heartbeat_ms: Mapped[int]


class ClockOffset(Base):
    """How far a node's clock was off, by the one of what it ships to: a row where that changed."""

    __tablename__ = "clocks"

    recording_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("recordings.key", ondelete="CASCADE"), primary_key=True
    )
    time_ms: Mapped[int] = mapped_column(primary_key=True)
    offset_ms: Mapped[int]
    error_ms: Mapped[int]


class Device(Base):
    """A physical device or a MIG instance, once in a ledger however many runs used it: what never
    changes of it.
    """

    __tablename__ = "devices"

    key: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    uuid: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    name: Mapped[str]
    mig_parent: Mapped[str | None]


class Sensor(Base):
    """How one recording read one device, and what the device was allowed to draw meanwhile; one
    that never answered is here too, with coverage 0.
    """

    __tablename__ = "sensors"
    __table_args__ = (UniqueConstraint("recording_key", "device_key"),)

    key: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    recording_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("recordings.key", ondelete="CASCADE")
    )
    device_key: Mapped[int] = mapped_column(Integer, ForeignKey("devices.key"), index=True)
    host: Mapped[str]
    rated_power_w: Mapped[float | None]
    power_limit_w: Mapped[float | None]
    meter: Mapped[str]
    quality: Mapped[str]
    field: Mapped[str]
    scope: Mapped[str]
    update_period_ms: Mapped[float | None]
    share: Mapped[float]


class Window(Base):
    """The pyramid: one row shape at 1 s, 60 s and 3600 s. See `carbontrack.ledger.window`. On
    PostgreSQL a view: see `migrations.server_1001`.

    The sensor comes last in the key, so that what is recorded at one time lies together: the
    recorder writes a quarter of the pages, and a stretch of time is read at one place. It is no
    foreign key: a sensor that is removed would have to be looked for in all of the table.
    """

    __tablename__ = "windows"
    __table_args__ = ({"sqlite_with_rowid": False, "info": {"view_on": "postgresql"}},)

    recording_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("recordings.key", ondelete="CASCADE"), primary_key=True
    )
    level: Mapped[int] = mapped_column(Integer, primary_key=True)  # 1, 60 or 3600 s
    start_ms: Mapped[int] = mapped_column(primary_key=True)
    sensor_key: Mapped[int] = mapped_column(Integer, primary_key=True)
    energy_j: Mapped[float | None]
    energy_s: Mapped[float]
    sampled_s: Mapped[float]
    samples: Mapped[int] = mapped_column(Integer)
    power_mean_w: Mapped[float | None] = mapped_column(
        Computed("energy_j / nullif(energy_s, 0)", persisted=False)
    )
    power_min_w: Mapped[float | None]
    power_max_w: Mapped[float | None]
    vitals: Mapped[int] = mapped_column(Integer)
    util_pct: Mapped[float | None]
    memory_max_bytes: Mapped[int | None]
    temperature_max_c: Mapped[float | None]
    sm_clock_mhz: Mapped[float | None]
    throttle: Mapped[int]
    flags: Mapped[int] = mapped_column(Integer)


class Step(Base):
    """One training step as the job logged it; one logged again by the same attempt replaces
    itself.
    """

    __tablename__ = "steps"
    __table_args__ = ({"sqlite_with_rowid": False},)

    recording_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("recordings.key", ondelete="CASCADE"), primary_key=True
    )
    restart: Mapped[int] = mapped_column(Integer, primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    rank: Mapped[int | None] = mapped_column(Integer)
    time_ms: Mapped[int]
    loss: Mapped[float | None]
    lr: Mapped[float | None]
    grad_norm: Mapped[float | None]
    tokens: Mapped[int | None]
    tokens_per_s: Mapped[float | None]
    extra: Mapped[dict[str, Any]]


class Event(Base):
    """Something that happened, as a marker on plots: a lost device, a checkpoint, a phase."""

    __tablename__ = "events"

    recording_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("recordings.key", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    time_ms: Mapped[int]
    host: Mapped[str | None]
    device_uuid: Mapped[str | None]
    kind: Mapped[str]
    message: Mapped[str]
    data: Mapped[dict[str, Any]]


class Stated(Base):
    """A run that was entered by hand, device name by device name."""

    __tablename__ = "stated"

    run_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True
    )
    device_name: Mapped[str] = mapped_column(primary_key=True)
    devices: Mapped[int | None] = mapped_column(Integer)
    device_hours: Mapped[float | None]
    power_w: Mapped[float | None]
    energy_kwh: Mapped[float | None]
    source: Mapped[str]
    started_ms: Mapped[int | None]
    ended_ms: Mapped[int | None]


class OverlapPart(Base):
    """What a sensor recorded in a stretch of time in which others recorded its device, too: a row
    of each of them, with the same start. Decided on seconds, and valid when these are gone.
    """

    __tablename__ = "overlaps"
    __table_args__ = ({"sqlite_with_rowid": False},)

    sensor_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("sensors.key", ondelete="CASCADE"), primary_key=True
    )
    start_ms: Mapped[int] = mapped_column(primary_key=True)
    energy_j: Mapped[float]
    seconds: Mapped[float]


class Amendment(Base):
    """A change of what is said of a run, which may come before the run does."""

    __tablename__ = "amendments"

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(index=True)
    time_ms: Mapped[int]
    user: Mapped[str]
    field: Mapped[str]
    before: Mapped[Any] = mapped_column(Json())
    after: Mapped[Any] = mapped_column(Json())


class Tombstone(Base):
    """A run that was removed."""

    __tablename__ = "tombstones"

    run_id: Mapped[str] = mapped_column(primary_key=True)
    time_ms: Mapped[int]
    user: Mapped[str]
    project: Mapped[str | None]


class ShippedTombstone(Base):
    """A tombstone that a target has."""

    __tablename__ = "shipped_tombstones"

    run_id: Mapped[str] = mapped_column(
        ForeignKey("tombstones.run_id", ondelete="CASCADE"), primary_key=True
    )
    target: Mapped[str] = mapped_column(primary_key=True)


class Import(Base):
    """A file of another tool, of which a run was made."""

    __tablename__ = "imports"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    run_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True, index=True
    )
    time_ms: Mapped[int]
    file: Mapped[str]
    kind: Mapped[str]
    tz: Mapped[str | None]
    first_row: Mapped[int]
    last_row: Mapped[int]
    rejected_rows: Mapped[int]
    notes: Mapped[list[str]]
    facts: Mapped[dict[str, Any]]


class Watermark(Base):
    """Up to where a recording has been shipped to a target."""

    __tablename__ = "watermarks"

    recording_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("recordings.key", ondelete="CASCADE"), primary_key=True
    )
    target: Mapped[str] = mapped_column(primary_key=True)
    seconds_ms: Mapped[int]
    minutes_ms: Mapped[int]
    hours_ms: Mapped[int]
    steps_ms: Mapped[int]
    events: Mapped[int] = mapped_column(Integer)
    late: Mapped[int] = mapped_column(Integer)
    shipped_ms: Mapped[int]


class LateMinute(Base):
    """A minute of a sensor that was written into after all of it had been there. See
    `carbontrack.ledger.late_minutes`.
    """

    __tablename__ = "late_minutes"
    __table_args__ = ({"sqlite_with_rowid": False},)

    recording_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("recordings.key", ondelete="CASCADE"), primary_key=True
    )
    sensor_key: Mapped[int] = mapped_column(Integer, primary_key=True)
    start_ms: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Integer)


class Live(Base):
    """What is now of a recording that is shipped here while it goes on: one row, written again with
    each batch and removed at its end.

    Half of each page is left free, so that PostgreSQL puts the next state of a row beside it and
    touches no index.
    """

    __tablename__ = "live"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    recording_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("recordings.key", ondelete="CASCADE"), primary_key=True
    )
    heard_ms: Mapped[int]  # by this ledger's clock
    time_ms: Mapped[int]
    sensor_keys: Mapped[list[int]] = mapped_column(Array(Integer()))
    power_w: Mapped[list[float | None]] = mapped_column(Array(REAL()))
    energy_j: Mapped[list[float | None]] = mapped_column(Array(Double()))
    util_pct: Mapped[list[float | None]] = mapped_column(Array(REAL()))


class Token(Base):
    """Who may write into a project of a team's ledger."""

    __tablename__ = "tokens"

    hash: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str]
    made_ms: Mapped[int]
    revoked_ms: Mapped[int | None]


class Intensity(Base):
    """Imported grid intensity of a zone, a stretch of time a row."""

    __tablename__ = "intensity"

    zone: Mapped[str] = mapped_column(primary_key=True)
    start_ms: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    length_ms: Mapped[int]
    intensity_kg_per_kwh: Mapped[float]
    basis: Mapped[str]
    source: Mapped[str]


class Price(Base):
    """An imported price, of a GPU-hour or of a kWh."""

    __tablename__ = "prices"
    __table_args__ = (CheckConstraint(f"unit in ({_listed(PriceUnit)})", name="unit"),)

    book: Mapped[str] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column("key", primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    unit: Mapped[str]
    price: Mapped[float]
    currency: Mapped[str]
    as_of: Mapped[str]
    source: Mapped[str]
