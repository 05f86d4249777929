"""How often the session of a run was resumed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; no earlier run was resumed."""
    op.add_column("runs", sa.Column("resumes", sa.Integer(), server_default="0", nullable=False))
