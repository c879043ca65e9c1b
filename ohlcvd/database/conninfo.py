"""Connection strings: what every connection has in common, and where the embedded server is."""

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ohlcvd.errors import PermissionRefused, ServiceUnavailable

# A dead host must be noticed: libpq by itself waits for ever.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


def with_defaults(conninfo: str, application_name: str = "ohlcvd") -> str:
    """`conninfo` with what it leaves open; what it says stays, several hosts and target_session_attrs included."""
    given = conninfo_to_dict(conninfo)
    defaults = {**_DEFAULTS, "application_name": application_name}
    return make_conninfo(conninfo, **{key: value for key, value in defaults.items() if key not in given})


def embedded(state_dir: Path) -> str:
    """How to reach the private PostgreSQL that runs in `state_dir`; ServiceUnavailable if none does."""
    pid_file = state_dir / "postgres" / "postmaster.pid"
    try:
        lines = pid_file.read_text("utf-8").splitlines()
    except PermissionError as error:
        raise PermissionRefused(f"{pid_file} cannot be read: run this as the user that runs ohlcvd") from error
    except FileNotFoundError:
        lines = []
    if len(lines) < 5:
        raise ServiceUnavailable(f"the embedded postgresql in {state_dir} is not running: start ohlcvd or give a dsn")
    return make_conninfo("", host=lines[4], port=lines[3], dbname="ohlcvd", user="ohlcvd")
