"""The settings of the web service. Imports neither Flask nor SQLAlchemy: the entrypoint reads it."""

from dataclasses import dataclass

from chassis import settings


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """The chassis's settings and this service's own, one line each."""

    notes_per_page: int = settings.setting(20, "Notes on one page of the list.", minimum=1, maximum=100)  # sample
