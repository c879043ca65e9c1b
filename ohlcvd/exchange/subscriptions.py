"""The subscriptions of one connection: what is wanted, asked, acknowledged, refused, and what is asked next. Pure.

A key is wanted from `add` until `remove`, through all sessions of the connection. Within a session each wanted key is
in one place at a time: waiting to be asked, asked, acknowledged, or refused until a certain moment. One that is
refused is asked again by itself after min(300, 2**n) s, more or less: a market that is parked at the venue costs one
request in five minutes, and its neighbours nothing.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import count
from typing import Literal, NamedTuple

from ohlcvd.exchange.pacing import refused_pause_s
from ohlcvd.market import Kind


class Key(NamedTuple):
    """One subscription."""

    symbol: str
    kind: Kind


class Request(NamedTuple):
    """What is to be sent next: keys of one kind."""

    act: Literal["subscribe", "unsubscribe"]
    keys: list[Key]


class Asked(NamedTuple):
    """A request on its way: who waits for its answer since when."""

    keys: list[Key]
    since_s: float


class Subscriptions:
    """See the module. `size`: the most symbols that the venue takes in one request."""

    def __init__(self, size: int) -> None:
        self.wanted: dict[Key, None] = {}
        self.acknowledged: set[Key] = set()
        self.answers = 0  # to requests of this session
        self._size = size
        self._numbers = count(1)
        self._to_send: deque[Request] = deque()
        self._asked: dict[int, Asked] = {}
        self._refused_until_s: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._open = False

    def number(self) -> int:
        """For a request to the venue; its answer carries it, too."""
        return next(self._numbers)

    # what is wanted

    def add(self, keys: Iterable[Key]) -> None:
        """Wanted from now on; asked at once when there is a session."""
        new = [key for key in keys if key not in self.wanted]
        self.wanted.update(dict.fromkeys(new))
        if self._open:
            self._send("subscribe", new)

    def remove(self, keys: Collection[Key]) -> None:
        """Not wanted any more; what the venue has accepted is taken back."""
        known = [key for key in keys if key in self.wanted]
        for key in known:
            del self.wanted[key]
            self._refused_until_s.pop(key, None)
            self._failures.pop(key, None)
        waiting = {key for request in self._to_send if request.act == "subscribe" for key in request.keys}
        self._forget_unsent(known)
        self.acknowledged.difference_update(known)
        # One whose answer is on its way is taken back, too; requests are sent in order, so it may be added again.
        self._send("unsubscribe", [key for key in known if self._open and key not in waiting])

    def renew(self, keys: Collection[Key]) -> None:
        """The venue is asked for these anew, as if it had never accepted them."""
        mine = [key for key in keys if key in self.acknowledged]
        self.acknowledged.difference_update(mine)
        self._send("unsubscribe", mine)
        self._send("subscribe", mine)

    # a session

    def begin(self, now_s: float) -> None:
        """A new connection is open: everything is asked that is not refused for now."""
        self.end()
        self._open = True
        self._send("subscribe", [key for key in self.wanted if self._refused_until_s.get(key, 0.0) <= now_s])

    def end(self) -> None:
        """The connection has ended, and with it what the venue knew of us."""
        self._open = False
        self.answers = 0
        self._to_send.clear()
        self._asked.clear()
        self.acknowledged.clear()

    def next(self) -> Request | None:
        """What is to be sent now."""
        return self._to_send.popleft() if self._to_send else None

    def sent(self, request: Request, number: int, now_s: float) -> None:
        """It is on its way."""
        if request.act == "subscribe":
            self._asked[number] = Asked(list(request.keys), now_s)

    def retry(self, now_s: float) -> None:
        """Ask again, each by itself, what was refused and has waited long enough."""
        for key, until_s in list(self._refused_until_s.items()):
            if until_s <= now_s:
                del self._refused_until_s[key]
                self._to_send.append(Request("subscribe", [key]))

    def waiting_s(self, number: int, now_s: float, not_before_s: float) -> float:
        """How long this request has been waiting for its answer; time before `not_before_s` does not count."""
        return now_s - max(self._asked[number].since_s, not_before_s)

    @property
    def unanswered(self) -> list[int]:
        """The numbers of the requests on their way."""
        return list(self._asked)

    def give_up(self, number: int) -> list[Key]:
        """Nobody answers this request any more."""
        return [key for key in self._asked.pop(number).keys if key in self.wanted]

    # the venue's answers

    def answered(self, number: int | None, symbol: str | None, kind: Kind | None) -> Iterator[Key]:
        """Takes the wanted keys that an answer speaks of from the requests on their way; None speaks of all."""
        for asked_number in self.unanswered if number is None else (number,):
            asked = self._asked.get(asked_number, Asked([], 0.0))
            self.answers += 1
            for key in [key for key in asked.keys if symbol in (None, key.symbol) and kind in (None, key.kind)]:
                asked.keys.remove(key)
                if key in self.wanted:
                    yield key
            if not asked.keys:
                self._asked.pop(asked_number, None)

    def accepted(self, key: Key) -> None:
        """The venue has acknowledged it."""
        self.acknowledged.add(key)
        self._failures.pop(key, None)

    def refused(self, key: Key, now_s: float, chance: float) -> float:
        """The venue does not accept it; returns for how long it is left alone. `chance` is in [0, 1)."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause_s = refused_pause_s(failures, chance)
        self._refused_until_s[key] = now_s + pause_s
        return pause_s

    def halve(self, keys: list[Key]) -> None:
        """A request was refused as a whole: the culprit is looked for in its halves, before anything else."""
        half = len(keys) // 2
        self._to_send.extendleft((Request("subscribe", keys[half:]), Request("subscribe", keys[:half])))

    def _send(self, act: Literal["subscribe", "unsubscribe"], keys: Collection[Key]) -> None:
        for kind in sorted({key.kind for key in keys}, reverse=True):  # trades first
            of_kind = [key for key in keys if key.kind == kind]
            for request in reversed(self._to_send):  # many single ones go together, but none overtakes another act
                if request.act != act:
                    break
                if request.keys[0].kind == kind:
                    room = self._size - len(request.keys)
                    request.keys.extend(of_kind[:room])
                    of_kind = of_kind[room:]
                    break
            self._to_send.extend(
                Request(act, of_kind[start : start + self._size]) for start in range(0, len(of_kind), self._size)
            )

    def _forget_unsent(self, keys: Collection[Key]) -> None:
        gone = set(keys)
        kept = ((r, r.keys if r.act == "unsubscribe" else [k for k in r.keys if k not in gone]) for r in self._to_send)
        self._to_send = deque(Request(request.act, left) for request, left in kept if left)
