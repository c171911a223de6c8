"""Imported factors: grid intensity over time, and prices.

Revision 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
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
