"""The database's tables. Rows of models, manifests, images and revisions are never changed, only succeeded.

Times are ISO 8601 text in UTC, JSON columns hold what `records.encode` gives. A change here needs a migration in
`store/migrations/versions` (a test compares the two).
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _cascade(column: str) -> ForeignKey:
    return ForeignKey(column, ondelete="CASCADE")


# The last version number given out per noun and name; outlives deletes, so that a number is never used twice.
sequences = Table(
    "sequences",
    metadata,
    Column("noun", String(16), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("last", Integer, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("source", Text, nullable=False, default=""),
    Column("description", Text, nullable=False, default=""),
    Column("inspection", JSON, nullable=False),
    Column("created_at", String(32), nullable=False),
    UniqueConstraint("name", "version"),
)

model_files = Table(
    "model_files",
    metadata,
    Column("model_id", _cascade("models.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("size_bytes", Integer, nullable=False),
    Column("position", Integer, nullable=False),
)

model_tags = Table(
    "model_tags",
    metadata,
    Column("model_id", _cascade("models.id"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    Index(None, "key", "value"),
)

model_metrics = Table(
    "model_metrics",
    metadata,
    Column("model_id", _cascade("models.id"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", Float, nullable=False),
)

model_aliases = Table(
    "model_aliases",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("alias", String(63), primary_key=True),
    Column("model_id", _cascade("models.id"), nullable=False, index=True),
)

manifests = Table(
    "manifests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("recipe", JSON, nullable=False),
    Column("notes", JSON, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("created_at", String(32), nullable=False),
    UniqueConstraint("name", "version"),
)

manifest_models = Table(
    "manifest_models",
    metadata,
    Column("manifest_id", _cascade("manifests.id"), primary_key=True),
    Column("model_id", ForeignKey("models.id", ondelete="RESTRICT"), primary_key=True, index=True),
)

manifest_files = Table(
    "manifest_files",
    metadata,
    Column("manifest_id", _cascade("manifests.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("sha256", String(64), nullable=False, index=True),
)

images = Table(
    "images",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    # Null for an image that was pulled or loaded: it was built from a manifest that is not here.
    Column("manifest_id", ForeignKey("manifests.id", ondelete="RESTRICT"), index=True),
    Column("plan", JSON, nullable=False),
    # Platform -> digest of its OCI manifest; null until it is built as OCI.
    Column("oci", JSON),
    Column("environment_key", String(64), nullable=False, index=True),
    Column("description", Text, nullable=False, default=""),
    Column("created_at", String(32), nullable=False),
    UniqueConstraint("name", "version"),
)

environments = Table(
    "environments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    # The socket of a container engine, as a URL.
    Column("engine", Text, nullable=False, server_default=""),
    Column("is_default", Boolean, nullable=False, server_default=false()),
    Column("created_at", String(32), nullable=False),
)

services = Table(
    "services",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("environment_id", ForeignKey("environments.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("description", Text, nullable=False, default=""),
    # What the user set, and what the autoscaler found while it is on (null while it is off).
    Column("replicas", Integer, nullable=False),
    Column("scaled", Integer),
    Column("settings", JSON, nullable=False),
    # Revision numbers: what traffic goes to, and what is rolled out when that differs.
    Column("live_revision", Integer),
    Column("target_revision", Integer),
    Column("deleting", Boolean, nullable=False, default=False),
    # Counts every change of what replicas must know; they report the number they have taken over.
    Column("generation", Integer, nullable=False, default=1),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("service_id", _cascade("services.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("image_id", ForeignKey("images.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("settings", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("created_at", String(32), nullable=False),
    Column("live_at", String(32)),
    UniqueConstraint("service_id", "number"),
)

# `previous_hash` stays valid until every replica has confirmed the new key.
service_keys = Table(
    "service_keys",
    metadata,
    Column("service_id", _cascade("services.id"), primary_key=True),
    Column("slot", String(16), primary_key=True),
    Column("hash", String(64), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("previous_hash", String(64)),
)

operations = Table(
    "operations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("subject", String(128), nullable=False, index=True),
    Column("state", String(16), nullable=False, index=True),
    Column("step", String(32), nullable=False, default=""),
    Column("input", JSON, nullable=False),
    # What finished steps have made, so that a resumed operation does not make it again.
    Column("made", JSON, nullable=False),
    Column("messages", JSON, nullable=False),
    Column("progress", Float),
    Column("error", JSON),
    Column("idempotency_key", String(255), unique=True),
    # The operation that took this one's place on its subject.
    Column("superseded_by", String(32)),
    Column("created_at", String(32), nullable=False, index=True),
    Column("updated_at", String(32), nullable=False),
)
