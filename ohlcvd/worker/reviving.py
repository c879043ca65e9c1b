"""When the market of a failed collector is started again. Pure: time and randomness are arguments."""

MAX_PAUSE_S = 300.0
# One that has gone well for so long begins anew.
FORGIVEN_S = 600.0


class Reviving:
    """After its nth failure in a row a market waits min(300, 2**n) s, more or less; the others go on."""

    def __init__(self) -> None:
        self._due_s: dict[str, float] = {}
        self._failures: dict[str, tuple[int, float]] = {}

    def failed(self, symbol: str, now_s: float, chance: float) -> float:
        """How long it waits now. `chance` is in [0, 1)."""
        count, last_s = self._failures.get(symbol, (0, now_s))
        count = 1 if now_s - last_s > FORGIVEN_S else count + 1
        pause_s = min(MAX_PAUSE_S, 2.0 ** min(count, 10)) * (0.5 + chance / 2)
        self._failures[symbol] = count, now_s
        self._due_s[symbol] = now_s + pause_s
        return pause_s

    def due(self, now_s: float) -> list[str]:
        """Those that have waited long enough; each is named once."""
        due = [symbol for symbol, due_s in self._due_s.items() if due_s <= now_s]
        for symbol in due:
            del self._due_s[symbol]
        return due

    def forget(self, symbol: str) -> None:
        """Not collected any more."""
        self._due_s.pop(symbol, None)
        self._failures.pop(symbol, None)
