"""Images that were pulled or loaded have no manifest here."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.alter_column("manifest_id", existing_type=sa.Integer(), nullable=True)


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM images WHERE manifest_id IS NULL"))
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.alter_column("manifest_id", existing_type=sa.Integer(), nullable=False)
