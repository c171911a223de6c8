"""The ledger's schema, as SQLAlchemy typed models. Tests hold `tables.py` and `migrations/` to it.

Runs and devices are known by UUID wherever people or ledgers meet, and by a small integer key
inside `windows`, which is by far the longest table. Times are integer ms since the epoch, UTC;
energy is in J and power in W, before PUE: nothing about carbon or money is decided here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
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
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from carbontrack.vocabulary import PriceUnit, Status


class Json(TypeDecorator[Any]):
    """JSON, on PostgreSQL as JSONB; whose dialect costs 40 ms to import, so only there."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON())
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())


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
    """One wrapped job."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(f"status in ({_listed(Status)})", name="status"),
        Index("ix_runs_name_started_ms", "name", "started_ms"),
        Index("ix_runs_started_ms", "started_ms"),
    )

    key: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    project: Mapped[str | None]
    tags: Mapped[dict[str, Any]]
    command: Mapped[list[str]]
    cwd: Mapped[str]
    user: Mapped[str]
    git_commit: Mapped[str | None]
    git_dirty: Mapped[bool | None]
    started_ms: Mapped[int]
    ended_ms: Mapped[int | None]
    status: Mapped[str]
    exit_code: Mapped[int | None] = mapped_column(Integer)
    facility: Mapped[dict[str, Any]]
    model: Mapped[dict[str, Any]]


class Node(Base):
    """One host of a run, and the heartbeat of its recorder."""

    __tablename__ = "nodes"

    run_key: Mapped[int] = mapped_column(
        ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True
    )
    host: Mapped[str] = mapped_column(primary_key=True)
    boot_id: Mapped[str | None]
    recorder_version: Mapped[str]
    settings: Mapped[dict[str, Any]]
    heartbeat_ms: Mapped[int]
    clock_offset_ms: Mapped[int | None]


class Device(Base):
    """A physical device or a MIG instance, once in a ledger however many runs used it."""

    __tablename__ = "devices"

    key: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    uuid: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    name: Mapped[str]
    rated_power_w: Mapped[float | None]
    power_limit_w: Mapped[float | None]
    mig_parent: Mapped[str | None]


class Sensor(Base):
    """How one run read one device; a device that never answered is here too, with coverage 0."""

    __tablename__ = "sensors"

    run_key: Mapped[int] = mapped_column(
        ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True
    )
    device_key: Mapped[int] = mapped_column(ForeignKey("devices.key"), primary_key=True)
    host: Mapped[str]
    meter: Mapped[str]
    quality: Mapped[str]
    field: Mapped[str]
    scope: Mapped[str]
    update_period_ms: Mapped[float | None]
    share: Mapped[float]


class Window(Base):
    """The pyramid: one row shape at 1 s, 60 s and 3600 s. See `carbontrack.ledger.window`."""

    __tablename__ = "windows"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True
    )
    level: Mapped[int] = mapped_column(Integer, primary_key=True)  # 1, 60 or 3600 s
    device_key: Mapped[int] = mapped_column(Integer, ForeignKey("devices.key"), primary_key=True)
    start_ms: Mapped[int] = mapped_column(primary_key=True)
    energy_j: Mapped[float | None]
    energy_s: Mapped[float]
    sampled_s: Mapped[float]
    samples: Mapped[int] = mapped_column(Integer)
    power_mean_w: Mapped[float | None] = mapped_column(
        Computed("energy_j / nullif(energy_s, 0)", persisted=True)
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
    """One training step as the job logged it; one logged again (after a resume) replaces itself."""

    __tablename__ = "steps"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_key: Mapped[int] = mapped_column(
        Integer, ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True
    )
    step: Mapped[int] = mapped_column(primary_key=True)
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

    run_key: Mapped[int] = mapped_column(
        ForeignKey("runs.key", ondelete="CASCADE"), primary_key=True
    )
    time_ms: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    host: Mapped[str | None]
    device_uuid: Mapped[str | None]
    kind: Mapped[str]
    message: Mapped[str]
    data: Mapped[dict[str, Any]]


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
