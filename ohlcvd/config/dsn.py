"""Connection strings of PostgreSQL and Redis: taken apart, parts replaced, put together, masked. Pure.

PostgreSQL: key=value conninfo and postgresql:// URIs, by libpq's own rules (PostgreSQL manual, 34.1.1), several hosts
included. Redis: redis://, rediss:// and unix:// by redis-py's rules. A ValueError says what is wrong with a string
and never repeats a secret of it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from ohlcvd.nearest import did_you_mean

EMBEDDED = "embedded"
MASK = "***"

# Every parameter of libpq 14 to 18.
_POSTGRES_WORDS = """
    application_name channel_binding client_encoding connect_timeout dbname fallback_application_name gssdelegation
    gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname
    load_balance_hosts max_protocol_version min_protocol_version oauth_client_id oauth_client_secret oauth_issuer
    oauth_scope options passfile password port replication require_auth requirepeer scram_client_key
    scram_server_key service ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode
    sslcompression sslcrl sslcrldir sslkey sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert sslsni
    target_session_attrs tcp_user_timeout user
"""
_REDIS_WORDS = """
    client_name db health_check_interval max_connections password protocol retry_on_timeout socket_connect_timeout
    socket_keepalive socket_timeout ssl_ca_certs ssl_ca_path ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_ciphers
    ssl_keyfile ssl_min_version ssl_password username
"""
POSTGRES_KEYWORDS = frozenset(_POSTGRES_WORDS.split())
REDIS_OPTIONS = frozenset(_REDIS_WORDS.split())
_POSTGRES_SECRETS = frozenset(
    {"password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"}
)
_REDIS_SECRETS = frozenset({"password", "ssl_password"})
_POSTGRES_SCHEMES = ("postgresql://", "postgres://")
_BARE_VALUE = re.compile(r"[A-Za-z0-9_./:,@%+-]+", re.ASCII)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_SPACE = " \t\n\r\f\v"


def parse_postgres(text: str) -> dict[str, str]:
    """The parameters of a conninfo string or URI, by libpq's names; several hosts stay comma-separated."""
    uri = text.startswith(_POSTGRES_SCHEMES)
    parameters = _parse_uri(text) if uri else _parse_conninfo(text)
    for keyword in parameters:
        if keyword not in POSTGRES_KEYWORDS:
            hint = did_you_mean(keyword, POSTGRES_KEYWORDS)
            raise ValueError(f'has a parameter "{keyword}" that libpq does not know{hint}')
    for port in parameters.get("port", "").split(","):
        if port:
            parse_port(port)
    return parameters


def render_postgres(parameters: Mapping[str, str]) -> str:
    """A conninfo string that libpq reads back as exactly these parameters."""
    return " ".join(f"{keyword}={_quoted(value)}" for keyword, value in parameters.items())


def replace_postgres(text: str, parts: Mapping[str, str]) -> str:
    """`text` ("" for none yet) with some of host, port, user, password, dbname replaced; the rest of it is kept."""
    parameters = parse_postgres(text)
    if "host" in parts:
        parameters.pop("hostaddr", None)  # libpq would go on connecting to the old address
    parameters.update(parts)
    hosts, ports = parameters.get("host", "").split(","), parameters.get("port", "").split(",")
    if len(ports) not in (1, len(hosts)):
        raise ValueError(f"names {len(hosts)} host(s) but {len(ports)} ports: set POSTGRES_PORT too")
    return render_postgres(parameters)


def mask_postgres(text: str) -> str:
    """A form for people: conninfo with every secret as ***."""
    if text == EMBEDDED:
        return text
    parameters = parse_postgres(text)
    # No quotes around the mask: it stands for a value, it is none.
    return " ".join(f"{k}={MASK if k in _POSTGRES_SECRETS else _quoted(v)}" for k, v in parameters.items())


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """The parts of a Redis URL; `host` is "" and `path` the socket's for unix://."""

    scheme: str
    host: str
    port: int
    path: str
    db: int
    username: str
    password: str
    options: tuple[tuple[str, str], ...]

    def text(self, *, masked: bool = False) -> str:
        """The URL again; with `masked`, secrets are ***."""
        secret = MASK if masked and self.password else quote(self.password, safe="")
        login = f"{quote(self.username, safe='')}{':' + secret if secret else ''}@" if self.username or secret else ""
        options = [(k, MASK if masked and k in _REDIS_SECRETS else v) for k, v in self.options]
        if self.scheme == "unix":
            query = ([("db", str(self.db))] if self.db else []) + options
            return f"unix://{login}{quote(self.path)}" + _query(query)
        host = f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        return f"{self.scheme}://{login}{host}:{self.port}/{self.db}" + _query(options)


def parse_redis(text: str) -> RedisUrl:
    """The parts of redis://, rediss:// or unix://; what is not given has Redis's default."""
    if any(c.isspace() for c in text):
        raise ValueError("has a space in it: write it as %20")
    try:
        url = urlsplit(text)
    except ValueError:  # its message may repeat the password
        raise ValueError("is not a URL") from None
    if url.scheme not in ("redis", "rediss", "unix"):
        raise ValueError('must be "embedded" or begin with redis://, rediss:// or unix://')
    if url.fragment or text.endswith("#"):
        raise ValueError("has a # in it: write it as %23")
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    for option in options:
        if option not in REDIS_OPTIONS:
            raise ValueError(f'has an option "{option}" that is not known{did_you_mean(option, REDIS_OPTIONS)}')
    # redis-py: a database number in the query beats the path, a login before the host beats the query.
    username = unquote(url.username or "") or options.pop("username", "")
    password = unquote(url.password or "") or options.pop("password", "")
    db_text = options.pop("db", "")
    rest = tuple((k, v) for k, v in options.items() if k not in ("username", "password"))
    if url.scheme == "unix":
        if url.hostname or not url.path.startswith("/"):
            raise ValueError("must have three slashes before an absolute path: unix:///run/redis/redis.sock")
        return RedisUrl("unix", "", 0, unquote(url.path), _database(db_text), username, password, rest)
    if not url.hostname:
        raise ValueError("names no host")
    try:
        port = url.port
    except ValueError:
        raise ValueError("has a port that is not a number from 1 to 65535") from None
    if port == 0:
        raise ValueError("has the port 0")
    db = _database(db_text or unquote(url.path).strip("/"))
    return RedisUrl(url.scheme, unquote(url.hostname), port or 6379, "", db, username, password, rest)


def replace_redis(text: str, parts: Mapping[str, str]) -> str:
    """`text` with host, port, db or password replaced ("" for none yet); a host that begins with / is a socket."""
    url = RedisUrl("redis", "localhost", 6379, "", 0, "", "", ()) if not text else parse_redis(text)
    host = parts.get("host", "")
    if host.startswith("/"):
        url = replace(url, scheme="unix", host="", port=0, path=host)
    elif host:
        scheme = "redis" if url.scheme == "unix" else url.scheme
        url = replace(url, scheme=scheme, host=host, port=url.port or 6379, path="")
    if "port" in parts:
        if url.scheme == "unix":
            raise ValueError("is a Unix socket, which has no port: set REDIS_HOST too, or leave REDIS_PORT out")
        url = replace(url, port=parse_port(parts["port"]))
    if "db" in parts:
        url = replace(url, db=_database(parts["db"]))
    if "password" in parts:
        url = replace(url, password=parts["password"])
    return url.text()


def mask_redis(text: str) -> str:
    """A form for people: the URL with every secret as ***."""
    return text if text == EMBEDDED else parse_redis(text).text(masked=True)


def check_part(part: str, text: str) -> None:
    """Refuse a value that cannot be this part of a connection string."""
    if part == "port":
        for port in text.split(","):
            if not _is_port(port):
                raise ValueError(f'is "{text[:20]}": allowed is a port from 1 to 65535')
    elif part == "db":
        _database(text)
    elif part == "host" and any(c in text for c in "@?#[] \t\n"):
        raise ValueError("is not a host name, an address or the path of a socket")


def parse_port(text: str) -> int:
    """A TCP port, 1 to 65535."""
    if not _is_port(text):
        raise ValueError("has a port that is not a number from 1 to 65535")
    return int(text)


def _is_port(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,5}", text, re.ASCII)) and 1 <= int(text) <= 65535


def _database(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII):
        raise ValueError("has a database number that is not a whole number from 0")
    return int(text)


def _query(options: Iterable[tuple[str, str]]) -> str:
    text = urlencode(list(options), safe=MASK)
    return "?" + text if text else ""


def _quoted(value: str) -> str:
    if _BARE_VALUE.fullmatch(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _parse_conninfo(text: str) -> dict[str, str]:
    """key = value pairs, blanks allowed around "=", values quoted by ' with backslash escapes."""
    parameters: dict[str, str] = {}
    at = _skip_space(text, 0)
    while at < len(text):
        start = at
        while at < len(text) and text[at] != "=" and text[at] not in _SPACE:
            at += 1
        keyword = text[start:at]
        at = _skip_space(text, at)
        if at >= len(text) or text[at] != "=" or not keyword:
            # Not repeated here: it may be the rest of a password with a blank in it.
            raise ValueError(
                'must be "embedded", a URI that begins with postgresql://, or key=value pairs separated by blanks '
                f"(a value with a blank in it stands in ' '); pair {len(parameters) + 1} has no ="
            )
        parameters[keyword], at = _conninfo_value(text, _skip_space(text, at + 1), keyword)
        at = _skip_space(text, at)
    return parameters


def _conninfo_value(text: str, at: int, keyword: str) -> tuple[str, int]:
    """The value that begins at `at` and where it ends."""
    value = []
    quoted = at < len(text) and text[at] == "'"
    at += quoted
    while at < len(text) and (text[at] != "'" if quoted else text[at] not in _SPACE):
        if text[at] == "\\":
            at += 1
            if at == len(text):
                break
        value.append(text[at])
        at += 1
    if quoted:
        if at >= len(text):
            raise ValueError(f'has no closing \' after "{keyword}=" (a blank and ; begin a comment, also in quotes)')
        at += 1
    return "".join(value), at


def _parse_uri(text: str) -> dict[str, str]:
    """postgresql://[user[:password]@][host[:port][,...]][/dbname][?parameter=value&...]"""
    if any(char in text for char in _SPACE):
        raise ValueError("is a URI with a blank in it: write it as %20")  # libpq cuts some of them off, by version
    rest = text.split("://", 1)[1]
    rest, _, query = rest.partition("?")
    authority, _, dbname = rest.partition("/")
    login, at_sign, hosts = authority.partition("@")
    if not at_sign:
        login, hosts = "", authority
    user, _, password = login.partition(":")
    names, ports = [], []
    for spec in hosts.split(","):
        name, port = _host_and_port(spec)
        names.append(_percent_decoded(name, "a host"))
        ports.append(port)
    parameters = {
        "user": _percent_decoded(user, "the user"),
        "password": _percent_decoded(password, "the password"),
        "host": ",".join(names),
        "port": ",".join(ports),
        "dbname": _percent_decoded(dbname, "the database name"),
    }
    parameters = {keyword: value for keyword, value in parameters.items() if value}
    for pair in query.split("&") if query else ():
        keyword, equals, value = pair.partition("=")
        if not equals or not keyword or "=" in value:
            raise ValueError("must have parameter=value pairs separated by & after the ?")
        keyword, value = _percent_decoded(keyword, "a parameter"), _percent_decoded(value, f'"{keyword}"')
        if (keyword, value) == ("ssl", "true"):  # as JDBC writes it; libpq takes it too
            keyword, value = "sslmode", "require"
        parameters[keyword] = value
    return parameters


def _host_and_port(spec: str) -> tuple[str, str]:
    if spec.startswith("["):
        name, bracket, port = spec[1:].partition("]")
        if not bracket or not name or (port and not port.startswith(":")):
            raise ValueError("has an IPv6 address that is not written [address]:port")
        return name, port[1:]
    name, _, port = spec.partition(":")
    if ":" in port or "@" in port:
        raise ValueError("has an @ or : too many before the host: write @ in a password as %40, : as %3A")
    return name, port


def _percent_decoded(text: str, what: str) -> str:
    if _BAD_PERCENT.search(text):
        raise ValueError(f"has a % in {what} that does not begin a percent-encoded character: write it as %25")
    return unquote(text, errors="strict")


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
