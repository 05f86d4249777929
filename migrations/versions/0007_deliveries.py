"""What has become of the work of a delivered requirement."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; of earlier deliveries it is not known."""
    op.add_column("requirements", sa.Column("delivery", JSONB(none_as_null=True)))
