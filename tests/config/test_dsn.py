"""Connection strings: read as libpq and redis-py read them, and replaced part by part without losing the rest."""

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from psycopg import OperationalError
from psycopg.pq import Conninfo

from ohlcvd.config import dsn

KEYWORDS = st.sampled_from(["host", "user", "password", "dbname", "application_name", "options"])
VALUES = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)


def libpq(text: str) -> dict[str, str] | None:
    """What libpq makes of it; None if it refuses."""
    try:
        options = Conninfo.parse(text.encode())
    except OperationalError:
        return None
    return {option.keyword.decode(): option.val.decode() for option in options if option.val is not None}


def ours(text: str) -> dict[str, str] | None:
    try:
        return dsn.parse_postgres(text)
    except ValueError:
        return None


def test_every_parameter_of_libpq_is_known() -> None:
    assert {option.keyword.decode() for option in Conninfo.get_defaults()} <= dsn.POSTGRES_KEYWORDS


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "host=a port=1 user = b",
        "host= user=x",
        "host=",
        r"password='a b\'c\\' host=h",
        r"password=a\ b\\",
        "password=a\\",
        "password='a' host=b",
        "password='a'host=b",
        "password='a",
        "host",
        "host a=b",
        "=a",
        "hots=a",
        "host=a host=b",
        "host=h1,h2 port=1,",
        "postgres://",
        "postgresql://h",
        "postgresql://u@h:1/d",
        "postgresql://u:@h",
        "postgresql://u:p%40%25w@h1:1,[::1]:2,h3/d?sslmode=require&application_name=x%20y",
        "postgresql:///d?host=/run/postgresql&port=5433",
        "postgresql://%2Frun%2Fpostgresql/d",
        "postgresql://h1,h2",
        "postgresql://h/d?ssl=true",
        "postgresql://h/?user=a",
        "postgresql://u:p@/d",
        "postgresql://h/%zz",
        "postgresql://h/a%00",
        "postgresql://h/d?a",
        "postgresql://h/d?user=a=b",
        "postgresql://[::1/d",
        "postgresql://[]/d",
        "postgresql://[::1]x/d",
        "postgresql://h/d?hots=a",
    ],
)
def test_strings_are_read_as_libpq_reads_them(text: str) -> None:
    assert ours(text) == libpq(text)


@given(st.dictionaries(KEYWORDS, VALUES))
def test_what_is_rendered_is_read_back_the_same_by_libpq(parameters: dict[str, str]) -> None:
    text = dsn.render_postgres(parameters)
    assert libpq(text) == parameters
    assert ours(text) == parameters


@given(st.text("pas word=host'\\ \t:/@%41?&[],", max_size=30))
def test_any_text_is_read_as_libpq_reads_it_or_refused(tail: str) -> None:
    for text in (tail, f"postgresql://{tail}", f"password={tail}"):
        read = ours(text)
        assert read is None or read == libpq(text)


@given(st.dictionaries(st.sampled_from(["user", "password", "dbname"]), VALUES.filter(bool), min_size=1))
def test_a_replaced_part_changes_nothing_else(parts: dict[str, str]) -> None:
    text = "postgresql://u:p@h1:1,h2:2/d?target_session_attrs=read-write"
    assert libpq(dsn.replace_postgres(text, parts)) == (libpq(text) or {}) | parts


def test_another_host_takes_its_address_along() -> None:
    assert dsn.replace_postgres("host=a hostaddr=10.0.0.1 port=1", {"host": "b"}) == "host=b port=1"
    assert dsn.replace_postgres("host=a,b port=1,2", {"host": "c,d"}) == "host=c,d port=1,2"
    assert dsn.replace_postgres("host=a,b port=1,2", {"host": "c", "port": "3"}) == "host=c port=3"
    with pytest.raises(ValueError, match="set POSTGRES_PORT too"):
        dsn.replace_postgres("host=a,b port=1,2", {"host": "c"})


def test_secrets_are_masked() -> None:
    masked = dsn.mask_postgres("postgresql://u:sesame@h/d?sslpassword=sesame")
    assert masked == "user=u password=*** host=h dbname=d sslpassword=***"
    assert dsn.mask_redis("rediss://u:sesame@h?ssl_password=sesame") == "rediss://u:***@h:6379/0?ssl_password=***"
    assert dsn.mask_postgres("embedded") == dsn.mask_redis("embedded") == "embedded"


def redis_py(url: str) -> dict[str, object]:
    """How redis-py would connect."""
    keywords = redis.ConnectionPool.from_url(url).connection_kwargs
    wanted = ("host", "port", "path", "db", "username", "password", "client_name", "socket_timeout")
    defaults: dict[str, object] = {"port": None if "path" in keywords else 6379, "db": 0}
    read = {name: keywords.get(name, defaults.get(name)) for name in wanted}
    return {name: value or None for name, value in read.items()}


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:7000/3",
        "redis://:p%40%2Fw@h",
        "redis://user:p@[::1]:1/2?client_name=x%20y&socket_timeout=2",
        "redis://h/1?db=5",
        "redis://h?username=u&password=p",
        "redis://a:b@h?username=u&password=p",
        "rediss://h",
        "unix:///run/redis.sock",
        "unix://u:p@/run/redis.sock?db=4",
        "unix:///run/a%20b.sock?password=x",
    ],
)
def test_urls_are_read_and_rendered_as_redis_py_reads_them(url: str) -> None:
    parsed = dsn.parse_redis(url)
    seen = redis_py(url)
    assert redis_py(parsed.text()) == seen
    assert (parsed.host or None, parsed.port or None, parsed.path or None, parsed.db or None) == (
        seen["host"],
        seen["port"],
        seen["path"],
        seen["db"],
    )
    assert (parsed.username or None, parsed.password or None) == (seen["username"], seen["password"])


@given(st.text(min_size=1, max_size=12), st.integers(0, 15), st.integers(1, 65535))
def test_replaced_parts_of_a_url_reach_redis_py(password: str, db: int, port: int) -> None:
    parts = {"host": "::1", "password": password, "db": str(db), "port": str(port)}
    seen = redis_py(dsn.replace_redis("unix:///run/x.sock", parts))
    assert (seen["host"], seen["port"], seen["db"], seen["password"]) == ("::1", port, db or None, password)


def test_a_socket_may_take_the_place_of_a_host() -> None:
    assert dsn.replace_redis("", {"host": "/run/r.sock", "db": "2"}) == "unix:///run/r.sock?db=2"
    assert dsn.replace_redis("rediss://:p@h:1/4", {"host": "x"}) == "rediss://:p@x:1/4"
