"""Entries."""

import sqlalchemy as sa
from alembic import op

revision = "20260101_entries"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("text", sa.String(200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_entries"),
    )


def downgrade() -> None:
    op.drop_table("entries")
