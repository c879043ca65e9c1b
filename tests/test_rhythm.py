"""Pauses that end together."""

import asyncio

from ohlcvd.rhythm import next_beat_s, until_beat


async def test_pauses_that_began_at_different_moments_end_in_the_same_turn_of_the_loop() -> None:
    due: list[float] = []
    for _ in range(3):
        due.append(next_beat_s(60.0))
        await asyncio.sleep(0.01)
    if due[0] != due[-1]:  # a beat was in between
        due = [due[-1], next_beat_s(60.0)]
    assert len(set(due)) == 1


async def test_a_long_pause_ends_with_a_short_one_and_none_is_over_at_once() -> None:
    long_s, short_s = next_beat_s(5.0), next_beat_s(0.5)
    assert (long_s - short_s) % 0.5 < 1e-6 or (long_s - short_s) % 0.5 > 0.5 - 1e-6
    began_s = asyncio.get_running_loop().time()
    assert began_s < short_s <= began_s + 0.5 + 1e-6
    assert await until_beat(0.5) >= 0


async def test_who_gives_up_waiting_does_not_hold_up_who_waits_for_the_same_beat() -> None:
    first, second, third = (asyncio.create_task(until_beat(0.1)) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    assert max(await asyncio.gather(first, third)) >= 0
    assert second.cancelled()


def test_each_event_loop_has_beats_of_its_own() -> None:
    async def leave_one_waiting() -> None:
        waiting = asyncio.create_task(until_beat(3_600.0))
        await asyncio.sleep(0)
        waiting.cancel()

    async def wait() -> float:
        return await asyncio.wait_for(until_beat(0.05), 5.0)

    asyncio.run(leave_one_waiting())
    assert asyncio.run(wait()) >= 0
