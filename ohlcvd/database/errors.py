"""What psycopg raises, told as ohlcvd's own errors: nothing outside this package needs to know psycopg."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from ohlcvd.errors import PermissionRefused, ServiceUnavailable


def first_line(error: BaseException) -> str:
    """What an error says, in one line; the rest of a server's message is detail and hint."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn connection and permission trouble into the errors of `ohlcvd.errors`; anything else is a bug and passes.

    `doing` completes "PostgreSQL cannot be reached while ..." ("reading candles").
    """
    try:
        yield
    except pg.InsufficientPrivilege as error:
        raise PermissionRefused(f"PostgreSQL refuses {doing}: {first_line(error)}") from error
    except (pg.ReadOnlySqlTransaction, pg.UndefinedTable, pg.InvalidSchemaName) as error:
        raise ServiceUnavailable(f"PostgreSQL is not ready for {doing}: {first_line(error)}") from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise ServiceUnavailable(f"PostgreSQL cannot be reached for {doing}: {first_line(error)}") from error
