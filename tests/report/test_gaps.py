"""What `ohlcvd gaps` says."""

import pytest

from ohlcvd.database import Database
from ohlcvd.database.inventory import Extent, Gap
from ohlcvd.database.repairs import Unfillable, record_unfillable
from ohlcvd.errors import UsageError
from ohlcvd.market import SECOND_US, Instrument
from ohlcvd.report.gaps import Missing, as_dict, missing, render
from tests.database.support import NOON_US, writing

EVIDENCE = Unfillable(
    NOON_US + 5 * SECOND_US, NOON_US + 6 * SECOND_US, "unfillable", "123-125", "Trades?since=1772366405",
    "122, then 126\x1b[2J", 3, NOON_US + 60 * SECOND_US, NOON_US + 90 * SECOND_US, NOON_US + 21_690 * SECOND_US,
)  # fmt: skip
FETCHABLE = Gap("binance", "ETH/USDT", "candles", NOON_US, NOON_US + 3600 * SECOND_US, "not yet fetched", None)
LOST = Gap("kraken", "BTC/USD", "trades", EVIDENCE.lower_us, EVIDENCE.upper_us, "unfillable", EVIDENCE)


def test_every_gap_is_a_line_with_its_evidence_below() -> None:
    assert render(Missing([FETCHABLE, LOST], [])).splitlines() == [
        "EXCHANGE  SYMBOL    KIND     FROM                 TO                   LENGTH  REASON",
        "binance   ETH/USDT  candles  2026-03-01 12:00:00  2026-03-01 13:00:00      1h  not yet fetched",
        "kraken    BTC/USD   trades   2026-03-01 12:00:05  2026-03-01 12:00:06      1s  unfillable",
        "    ids 123-125",
        "    asked 3 times since 2026-03-01 12:01:00, last 2026-03-01 12:01:30, next 2026-03-01 18:01:30",
        "    asked: Trades?since=1772366405",
        "    answered: 122, then 126\\x1b[2J",
        "",
        "2 gaps: 1 not yet fetched, 1 unfillable (times are UTC)",
    ]
    once = LOST._replace(evidence=EVIDENCE._replace(attempts=1, ids=""))
    text = render(Missing([once], []))
    assert "    asked once, last 2026-03-01 12:01:30" in text
    assert "ids" not in text
    assert text.endswith("\n1 gap: 1 unfillable (times are UTC)")


def test_nothing_missing_is_said_with_how_far() -> None:
    assert render(Missing([], [])) == "nothing is missing, for nothing was collected yet"
    extents = [
        Extent("kraken", "BTC/USD", "trades", NOON_US, NOON_US + 65 * SECOND_US),
        Extent("kraken", "BTC/USD", "candles", NOON_US, NOON_US + 60 * SECOND_US),
        Extent("kraken", "ETH/USD", "trades", NOON_US, NOON_US + 63 * SECOND_US),
        Extent("kraken", "SOL/USD", "trades", NOON_US, None),
    ]
    assert render(Missing([], extents)) == (
        "nothing is missing: 3 markets, trades up to 2026-03-01 12:01:03 and candles up to 2026-03-01 12:01:00 (UTC)"
    )


def test_as_json() -> None:
    document = as_dict(Missing([FETCHABLE, LOST], [Extent("kraken", "BTC/USD", "trades", NOON_US, None)]))
    since = "2026-03-01T12:00:00.000000Z"
    assert document["markets"] == [
        {"exchange": "kraken", "symbol": "BTC/USD", "kind": "trades", "since": since, "until": None}
    ]
    assert document["notes"] == []
    assert as_dict(Missing([], [], ["kraken: trades before 2026-01-01 are not kept"]))["notes"] == [
        "kraken: trades before 2026-01-01 are not kept"
    ]
    gaps = document["gaps"]
    assert isinstance(gaps, list)
    assert [(gap["length_s"], gap["reason"], gap["evidence"] is None) for gap in gaps] == [
        (3600.0, "not yet fetched", True),
        (1.0, "unfillable", False),
    ]
    assert gaps[1]["evidence"] == {
        "ids": "123-125",
        "attempts": 3,
        "asked": "Trades?since=1772366405",
        "answered": "122, then 126\x1b[2J",
        "first": "2026-03-01T12:01:00.000000Z",
        "last": "2026-03-01T12:01:30.000000Z",
        "next": "2026-03-01T18:01:30.000000Z",
    }


async def test_from_the_database(database: Database, instrument: Instrument) -> None:
    async with writing(database) as writer:
        writer.cover(instrument, "trades", NOON_US, EVIDENCE.lower_us)
        writer.cover(instrument, "trades", EVIDENCE.upper_us, EVIDENCE.upper_us + 5)
        assert await writer.drain(10)
    assert await missing(database) == Missing(
        [LOST._replace(reason="not yet fetched", evidence=None)],
        [Extent("kraken", "BTC/USD", "trades", NOON_US, EVIDENCE.upper_us + 5)],
    )
    evidence = EVIDENCE._replace(answered="122, then 126")
    await record_unfillable(database, instrument.id, "trades", evidence)
    assert (await missing(database, "kraken", "BTC/USD")).gaps == [LOST._replace(evidence=evidence)]


@pytest.mark.parametrize(
    ("exchange", "symbol", "sentence"),
    [
        ("kracken", None, 'nothing of an exchange "kracken" is in the database; did you mean kraken?'),
        ("okx", None, 'nothing of an exchange "okx" is in the database; there is kraken'),
        ("kraken", "btc/usd", 'no market "btc/usd" of kraken is in the database; did you mean BTC/USD?'),
        ("kraken", "?", 'no market "?" of kraken is in the database'),
    ],
)
async def test_what_is_not_there_is_a_usage_error_with_the_nearest(
    database: Database, instrument: Instrument, exchange: str, symbol: str | None, sentence: str
) -> None:
    with pytest.raises(UsageError) as caught:
        await missing(database, exchange, symbol)
    assert str(caught.value) == sentence
