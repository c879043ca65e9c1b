"""Trades of many markets at once become what they become one market at a time, claims in their place."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ohlcvd.market import MINUTE_US, SECOND_US, Candle, Instrument, Kind, Trade
from ohlcvd.store import Added
from ohlcvd.trade.manager import TradeManager

T0 = 1_763_798_400_000_000
MARKETS = {symbol: Instrument(number, "kraken", symbol) for number, symbol in enumerate(("BTC/USD", "ETH/USD"), 1)}


class Story:
    """A store that keeps the order of all that is said of each market."""

    def __init__(self) -> None:
        self.of: dict[str, list[object]] = {symbol: [] for symbol in MARKETS}
        self.together: list[int] = []

    def add_trades(self, instrument: Instrument, trades: Sequence[Trade]) -> None:
        self.of[instrument.symbol] += trades

    def add_many(self, added: Sequence[Added]) -> None:
        self.together.append(len(added))
        for instrument, trades in added:
            self.add_trades(instrument, trades)

    def add_candles(self, instrument: Instrument, candles: Sequence[Candle]) -> None:
        self.of[instrument.symbol] += candles

    def cover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        self.of[instrument.symbol].append(("cover", kind, lower_us, upper_us))

    def uncover(self, instrument: Instrument, kind: Kind, lower_us: int, upper_us: int) -> None:
        self.of[instrument.symbol].append(("uncover", kind, lower_us, upper_us))


def manager(story: Story, *, sequential_ids: bool) -> TradeManager:
    made = TradeManager("kraken", MARKETS, story, stores_candles=True, sequential_ids=sequential_ids)
    for collector in made.collectors.values():
        collector.subscribed(T0)
    return made


def trades(first: int, count: int, at_s: int) -> list[Trade]:
    return [Trade(T0 + at_s * SECOND_US + n, str(n), "10", "1", "buy") for n in range(first, first + count)]


Steps = list[tuple[int, int, int, int, str]]
STEPS = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 40), st.integers(1, 3), st.integers(0, 30),
        st.sampled_from(["", "", "", "", "tick", "interrupted", "subscribed", "suspend", "resume"]),
    ),
    max_size=30,
)  # fmt: skip


@given(STEPS, st.booleans())
def test_at_once_is_as_one_after_the_other(steps: Steps, sequential_ids: bool) -> None:
    single, many = Story(), Story()
    one, other = manager(single, sequential_ids=sequential_ids), manager(many, sequential_ids=sequential_ids)
    at_s, following = 0, dict.fromkeys(MARKETS, 1)
    for which, jump, count, pause_s, act in steps:
        at_s += pause_s
        # most follow the one before, some repeat or leave out
        for symbol in MARKETS:
            following[symbol] += {0: jump - 20}.get(which, 0)
        rows = [(symbol, trades(max(1, following[symbol]), count, at_s)) for symbol in [*MARKETS][: which or 1]]
        for symbol, own in rows:
            following[symbol] = int(own[-1].id) + 1
            one.on_trades(symbol, own, False)
        other.on_many(rows)
        for manager_ in (one, other):
            collector = manager_.collectors["BTC/USD"]
            if act == "tick":
                manager_.tick(T0 + at_s * SECOND_US)
            elif act == "interrupted":
                collector.interrupted("cut")
            elif act == "subscribed":
                collector.subscribed(T0 + at_s * SECOND_US)
            elif act == "suspend":
                manager_.suspend("no room")
            elif act == "resume":
                manager_.resume(T0 + at_s * SECOND_US)
    for manager_ in (one, other):
        manager_.tick(T0 + at_s * SECOND_US + 5 * MINUTE_US)
    assert many.of == single.of
    for symbol in MARKETS:
        a, b = one.collectors[symbol], other.collectors[symbol]
        assert (a.received, a.last_trade, a.left_out) == (b.received, b.last_trade, b.left_out)


def test_what_follows_goes_to_the_store_together() -> None:
    story = Story()
    made = manager(story, sequential_ids=True)
    for number in range(1, 4):
        made.on_many([(symbol, trades(number, 1, number)) for symbol in MARKETS])
    assert story.together == [2, 2], "of the first nothing is known that it could follow"
    assert [len(own) for own in story.of.values()] == [3, 3]


def test_one_that_fails_is_told_and_the_others_are_stored() -> None:
    story = Story()
    made = manager(story, sequential_ids=False)
    failed: list[str] = []
    made.failed = lambda symbol, error: failed.append(symbol)
    bad = Trade(T0, [], "10", "1", "buy")  # type: ignore[arg-type]
    made.on_many([("BTC/USD", [bad]), ("ETH/USD", trades(1, 1, 1)), ("gone", trades(1, 1, 1))])
    assert failed == ["BTC/USD"]
    assert (story.of["BTC/USD"], story.of["ETH/USD"]) == ([], trades(1, 1, 1))
