"""Errors of Postgres by kind, a few words that a time series may have as its label."""

import psycopg2
import sqlalchemy

# By SQLSTATE, or by its class (PostgreSQL's manual, appendix A).
KINDS = {
    "23": "constraint",
    "25006": "read_only",
    "40001": "serialization",
    "40P01": "deadlock",
    "42": "statement",
    "53": "resources",
    "55P03": "lock_timeout",
    "57014": "statement_timeout",
}


def kind(error: BaseException) -> str:
    """`connection` for one that Postgres did not send, `other` for the rest."""
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return "pool_timeout"
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        error = error.orig or error
    if state := getattr(error, "pgcode", None):
        return KINDS.get(state) or KINDS.get(state[:2], "other")
    return "connection" if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) else "other"
