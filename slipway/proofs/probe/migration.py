"""The probe's table, on top of the service's newest revision, which `harness.with_probe` fills in."""

import sqlalchemy as sa
from alembic import op

revision = "probe"
down_revision = None  # NEWEST


def upgrade() -> None:
    op.create_table(
        "probe",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("title", sa.String(300), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("probe")
