"""On PostgreSQL the hours of a run's devices by attempt, and added up by day.

Revision 1002. A file stays as it is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from carbontrack.ledger.migrations import server_run_days
from carbontrack.ledger.migrations.server_1001 import as_owner

revision = "1002"
down_revision = "1001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        schema = op.get_bind().scalar(sa.text("select current_schema()"))
        for statement in server_run_days.statements(as_owner(schema)):
            op.execute(statement)
