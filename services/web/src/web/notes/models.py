"""The table of notes."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Identity, Index, String, func
from sqlalchemy.orm import Mapped, mapped_column

from web.models import Base
from web.notes.rules import MAX_BODY, MAX_TITLE


class Note(Base):
    __tablename__ = "notes"
    # Serves the list, which is newest first: Postgres reads an index backwards as fast as forwards.
    __table_args__ = (Index(None, "created_at", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    title: Mapped[str] = mapped_column(String(MAX_TITLE))
    body: Mapped[str] = mapped_column(String(MAX_BODY), server_default="")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )
