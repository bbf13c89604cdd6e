"""From a source to the lists: nothing lost without a word, nothing twice, and a hit rate that load does not bend."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import live_cases as cases
import numpy as np
import pytest
import zmq
from scipy.stats import binomtest

from sfxjax.errors import UserError
from sfxjax.live.frames import Faults, LiveFrame, MessageError
from sfxjax.live.judge import Looks
from sfxjax.live.keeper import LIVE_JOURNAL, JudgedFrame, Keeper
from sfxjax.live.receiver import Receiver
from sfxjax.live.sampling import Buffer
from sfxjax.live.seen import Lost, Seen
from sfxjax.live.statistics import Latencies, RecentSums, Sums, estimated_hit_rate
from sfxjax.live.zeromq import ZeroMQSource


class Given:
    """A source of frames that a test gives."""

    name, waits = "given", False

    def __init__(self, numbers: list[int], waits: bool = False, pause: float = 0.0) -> None:
        self.faults, self.waits = Faults(), waits
        self._numbers, self._pause = numbers, pause

    def receive(self, stop: threading.Event) -> Iterator[LiveFrame | None]:
        for number in self._numbers:
            if stop.is_set():
                return
            yield frame(number)
            time.sleep(self._pause)
        while not stop.wait(0.01):
            yield None


def frame(number: int) -> LiveFrame:
    return LiveFrame("series-1", f"//{number}", time.monotonic(), lambda: cases.pixels(number), number)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def run(receiver: Receiver, frames: int) -> None:
    """Run until so many frames are accounted for."""
    counts = receiver.keeper.counts
    until = time.monotonic() + 60

    def done() -> bool:
        assert time.monotonic() < until, counts
        known = counts.judged + counts.errors + counts.repeated + counts.left_out
        return known + receiver.waiting >= frames and not receiver.waiting

    receiver.run(until=done)
    receiver.keeper.close()


def test_a_source_that_waits_has_every_frame_judged_in_order(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "o", {})
    run(Receiver(Given(list(range(200)), waits=True), cases.judge, keeper, 2), 200)  # type: ignore[arg-type]
    found = rows(tmp_path / "o")
    assert [row["event"] for row in found] == [f"//{number}" for number in range(200)]
    assert [row["label"] == "HIT" for row in found] == [cases.is_hit(number) for number in range(200)]
    assert {row["weight"] for row in found} == {"1"}
    hits = (tmp_path / "o" / "hits.lst").read_text().splitlines()
    assert hits == [f"series-1 //{number}" for number in range(0, 200, 3)]
    with (tmp_path / "o" / "spots.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 2 * len(hits)


def test_frames_that_come_while_the_first_is_compiled_are_all_judged(tmp_path: Path) -> None:
    began = threading.Event()

    def compiled_first(frame: LiveFrame, weight: int) -> tuple[JudgedFrame, Looks | None]:
        if not began.is_set():
            time.sleep(0.5)
            began.set()
        return cases.judge(frame, weight)

    compiled_first.min_snr, compiled_first.min_spots, compiled_first.model = 6.0, 4, "a test"  # type: ignore[attr-defined]
    keeper = Keeper(tmp_path / "o", {})
    run(Receiver(Given(list(range(40)), pause=0.005), compiled_first, keeper, 2), 40)  # type: ignore[arg-type]
    assert [(row["event"], row["weight"]) for row in rows(tmp_path / "o")] == [
        (f"//{number}", "1") for number in range(40)
    ]
    assert keeper.counts.left_out == 0


def test_a_group_is_a_fair_draw_whatever_the_frames_are() -> None:
    chosen = np.zeros(10)
    for seed in range(4000):
        buffer: Buffer[int] = Buffer(1, seed=seed)
        for number in range(10):
            buffer.put(number)
        taken = buffer.take()
        assert taken is not None and taken[1] == 10
        chosen[taken[0]] += 1
    assert all(binomtest(int(count), 4000, 0.1).pvalue > 1e-4 for count in chosen)


def test_weights_sum_to_the_frames_and_the_rate_is_unbiased_where_hits_take_longer() -> None:
    # Hits come in bursts and take four times as long: counting hits among the judged would show too few of them.
    draws = np.random.default_rng(0)
    estimates, plain, truth, covered = [], [], [], 0
    for seed in range(300):
        buffer: Buffer[bool] = Buffer(3, seed=seed)
        hits = np.repeat(draws.random(60) < 0.4, 20)
        sums, busy = Sums(), 0.0
        for time_now, hit in enumerate(hits):
            buffer.put(bool(hit))
            while busy <= time_now and (taken := buffer.take()) is not None:
                sums.add(taken[1], taken[0], 0.0)
                busy = max(busy, time_now) + (8 if taken[0] else 2)
        left = buffer.close()
        assert sums.weight + left == len(hits)
        rate = estimated_hit_rate(sums)
        estimates.append(rate.value)
        plain.append(sums.hits / sums.judged)
        truth.append(hits.mean())
        covered += rate.low <= hits.mean() <= rate.high
    error = np.array(estimates) - truth
    assert abs(error.mean()) < 3 * error.std() / np.sqrt(len(error)) + 0.005
    assert (np.array(plain) - truth).mean() < -0.1
    assert covered >= 0.9 * 300


def test_frames_that_came_while_nothing_was_judged_weigh_no_more_than_a_few_groups() -> None:
    buffer: Buffer[int] = Buffer(2)
    for number in range(5000):
        buffer.put(number)
    taken = [buffer.take(), buffer.take()]
    assert [group for _, group in filter(None, taken)] == [1, 16] and buffer.skipped() == 5000 - 17
    # Where ten come for one that is judged, groups of ten become the usual ones.
    groups = []
    for number in range(20_000):
        buffer.put(number)
        if number % 10 == 0 and (one := buffer.take()) is not None:
            groups.append(one[1])
    assert np.mean(groups[-500:]) == pytest.approx(10, abs=0.2)


def test_the_interval_is_wilsons_and_unequal_weights_widen_it() -> None:
    sums = Sums()
    for number in range(80):
        sums.add(1.0, number < 20, 1.0)
    rate = estimated_hit_rate(sums)
    # By the formula, with z = 1.959964.
    z, n, p = 1.959964, 80, 0.25
    middle = (p + z * z / 2 / n) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    np.testing.assert_allclose(
        [rate.value, rate.low, rate.high], [p, middle - half, middle + half], rtol=1e-5
    )
    uneven = Sums()
    for number in range(80):
        uneven.add(1.0 if number % 2 else 9.0, number < 20, 1.0)
    assert (
        uneven.weight == 400
        and estimated_hit_rate(uneven).high - estimated_hit_rate(uneven).low > rate.high - rate.low
    )
    assert np.isnan(estimated_hit_rate(Sums()).value)


def test_a_window_forgets_and_latencies_are_within_three_per_cent() -> None:
    window = RecentSums(10.0)
    for second in range(100):
        window.add(float(second), 1.0, second >= 90, 0.0)
    assert estimated_hit_rate(window.sums(99.0)).value > 0.9 and window.sums(99.0).judged <= 11
    assert window.sums(200.0).judged == 0
    latencies = Latencies()
    values = np.random.default_rng(0).lognormal(-1, 1, 20_000)
    for value in values:
        latencies.add(value)
    for share in (0.5, 0.99):
        assert latencies.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.04)


def test_more_frames_than_can_be_judged_are_all_accounted_for(tmp_path: Path) -> None:
    def slow(frame: LiveFrame, weight: int) -> object:
        time.sleep(0.01)
        return cases.judge(frame, weight)

    slow.min_snr, slow.min_spots, slow.model = 6.0, 4, "a test"  # type: ignore[attr-defined]
    keeper = Keeper(tmp_path / "o", {})
    receiver = Receiver(Given(list(range(3000)), pause=0.0005), slow, keeper, 2)  # type: ignore[arg-type]
    run(receiver, 3000)
    counts = keeper.counts
    assert counts.received == 3000 == counts.judged + counts.left_out and counts.left_out > 500
    assert len(rows(tmp_path / "o")) == counts.judged
    assert sum(int(row["weight"]) for row in rows(tmp_path / "o")) <= 3000


def test_frames_that_cannot_be_judged_are_errors_with_a_reason(tmp_path: Path) -> None:
    def broken(frame: LiveFrame, weight: int) -> object:
        if frame.index == 3:
            raise RuntimeError("a fault of ours")
        return cases.judge(frame, weight)

    broken.min_snr, broken.min_spots, broken.model = 6.0, 4, "a test"  # type: ignore[attr-defined]
    said: list[str] = []
    source = Given(list(range(6)), waits=True)
    source.faults = Faults(said.append)
    run(Receiver(source, broken, Keeper(tmp_path / "o", {}), 2), 6)  # type: ignore[arg-type]
    assert [row["label"] for row in rows(tmp_path / "o")].count("ERROR") == 1
    assert rows(tmp_path / "o")[3]["reason"] == "RuntimeError: a fault of ours" and len(said) == 1


def test_faults_are_said_once_a_kind() -> None:
    said: list[str] = []
    faults = Faults(said.append)
    for number in range(5):
        faults.add(MessageError("damaged", str(number)))
    faults.add(MessageError("absurd"))
    assert len(said) == 2 and faults.counts == {"damaged": 5, "absurd": 1} and faults.total == 6


def test_lists_are_cut_back_to_where_they_agree_and_no_frame_stands_twice(tmp_path: Path) -> None:
    out = tmp_path / "o"
    keeper = Keeper(out, {"a": 1})
    for number in range(9):
        keeper.add(cases.judge(frame(number), 1)[0])
    keeper.close()
    whole = {
        name: (out / name).read_bytes() for name in ("frames.csv", "spots.csv", "hits.lst", "misses.lst")
    }
    # What a kill leaves: half a line in one list, a row too many in another, half a record.
    with (out / "frames.csv").open("a") as stream:
        stream.write("series-1,//9,9,1.0")
    with (out / "hits.lst").open("a") as stream:
        stream.write("series-1 //9\n")
    with (out / LIVE_JOURNAL).open("a") as stream:
        stream.write('00000000 {"lengths":')
    again = Keeper(out, {"a": 1})
    assert again.resumed == 9 and again.sums.hits == 3 and again.counts.judged == 9
    assert not again.add(cases.judge(frame(4), 1)[0]) and again.counts.repeated == 1
    again.close()
    assert {name: (out / name).read_bytes() for name in whole} == whole
    with pytest.raises(UserError, match="other settings"):
        Keeper(out, {"a": 2})
    Keeper(out, {"a": 2}, overwrite=True).close()
    assert rows(out) == []


def test_two_processes_do_not_write_into_one_folder(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "o", {})
    with pytest.raises(UserError, match="another process"):
        Keeper(tmp_path / "o", {})
    keeper.close()


def test_names_of_the_files_that_a_series_is_written_to_stand_in_the_lists(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "o", {}, written_as="/data/{series}_master.h5")
    keeper.add(cases.judge(frame(6), 1)[0])
    keeper.close()
    assert (tmp_path / "o" / "hits.lst").read_text() == "/data/series-1_master.h5 //6\n"


def test_seen_frames_take_a_bit_each() -> None:
    seen = Seen()
    chosen = np.random.default_rng(0).integers(0, 50_000, 5000)
    for number in chosen:
        seen.add("a", f"//{number}")
    seen.add("b.cbf", "")
    known = set(chosen.tolist())
    assert all((("a", f"//{number}") in seen) == (number in known) for number in range(50_000))
    assert ("b.cbf", "") in seen and ("c.cbf", "") not in seen and ("b.cbf", "//1") not in seen
    assert sum(map(len, seen._pages.values())) < 8000


def test_numbers_that_never_came_are_counted_and_late_ones_are_not() -> None:
    lost = Lost()
    for number in (100, 101, 104, 103, 105, 2**50, 2**50 + 2):
        lost.came("a", number)
    assert lost.count == 2
    lost.came("b", 7)
    assert lost.count == 2


def play(kind: str, address: str, numbers: range, stop: threading.Event, pause: float = 0.002) -> None:
    parts = list(cases.messages(kind, numbers.stop))
    header, images = parts[0], parts[1:-1]
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.SNDHWM, 4)
        socket.setsockopt(zmq.LINGER, 1000)
        socket.bind(address)
        for message in (header, *(images[number] for number in numbers)):
            while not stop.is_set():
                try:
                    socket.send_multipart(message, zmq.NOBLOCK)
                    break
                except zmq.Again:
                    time.sleep(0.01)
            time.sleep(pause)


def test_a_source_that_goes_and_comes_back_is_taken_up_again_and_rubbish_passed_over(tmp_path: Path) -> None:
    address = cases.free_address()
    keeper = Keeper(tmp_path / "o", {})
    source = ZeroMQSource(address, "stream2", Faults())
    receiver = Receiver(source, cases.judge, keeper, 2)  # type: ignore[arg-type]

    def detector() -> None:
        play("stream2", address, range(20), receiver.stop)
        time.sleep(0.3)
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.bind(address)
            for message in (b"rubbish", b"\xa1atx", b""):
                socket.send(message)
            socket.close(linger=1000)
        play("stream2", address, range(10, 40), receiver.stop)

    player = threading.Thread(target=detector)
    player.start()
    run(receiver, 50)
    player.join()
    assert {row["event"] for row in rows(tmp_path / "o")} == {f"//{number}" for number in range(40)}
    counts = keeper.counts
    assert (counts.received, counts.judged, counts.repeated, counts.lost) == (50, 40, 10, 0)
    assert source.faults.total == 3


def test_a_reader_that_fails_in_its_own_way_ends_nothing() -> None:
    source = ZeroMQSource("tcp://127.0.0.1:9", "stream2", Faults())
    source._stream.frames = lambda parts, arrived: parts[7]  # type: ignore[method-assign]
    with pytest.raises(MessageError, match="IndexError"):
        source._frames([b""])


@pytest.mark.parametrize("words", [("tcp://h:1", "stream9"), ("tcp:/h:1", "stream2")])
def test_a_source_that_makes_no_sense_is_refused(words: tuple[str, str]) -> None:
    with pytest.raises(UserError):
        ZeroMQSource(*words, Faults())


def test_two_receivers_share_a_stream(tmp_path: Path) -> None:
    address = cases.free_address()
    receivers = [
        Receiver(
            ZeroMQSource(address, "stream2", Faults()),
            cases.judge,  # type: ignore[arg-type]
            Keeper(tmp_path / name, {}),
            1,
            shared=True,
        )
        for name in "ab"
    ]
    threads = [threading.Thread(target=receiver.run) for receiver in receivers]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    play("stream2", address, range(60), threading.Event())
    until = time.monotonic() + 30
    while sum(receiver.keeper.counts.judged for receiver in receivers) < 60 and time.monotonic() < until:
        time.sleep(0.05)
    for receiver, thread in zip(receivers, threads, strict=True):
        receiver.stop.set()
        thread.join()
        receiver.keeper.close()
    found = [[row["event"] for row in rows(tmp_path / name)] for name in "ab"]
    assert sorted(found[0] + found[1]) == sorted(f"//{number}" for number in range(60))
    assert min(map(len, found)) > 10 and [receiver.keeper.counts.lost for receiver in receivers] == [0, 0]


def test_a_folder_that_is_empty_at_first_is_followed(tmp_path: Path) -> None:
    from sfxjax.data.frames import ReadOptions
    from sfxjax.live.sources.files import FileSource

    folder = tmp_path / "run"
    keeper = Keeper(tmp_path / "o", {})
    source = FileSource([str(folder)], ReadOptions(growing=True, panels_apart=True), Faults())
    receiver = Receiver(source, cases.judge, keeper, 2)  # type: ignore[arg-type]

    def write() -> None:
        time.sleep(0.5)
        folder.mkdir()
        for name in "ab":
            with h5py.File(folder / f"{name}.cxi", "w", libver="latest", locking=False) as file:
                stack = file.create_dataset(
                    "/entry_1/data_1/data", (0, 64, 64), "u2", maxshape=(None, 64, 64), chunks=(1, 64, 64)
                )
                file.swmr_mode = True
                for number in range(6):
                    stack.resize(number + 1, axis=0)
                    stack[number] = cases.pixels(number)
                    file.flush()
                    time.sleep(0.1)

    writer = threading.Thread(target=write)
    writer.start()
    run(receiver, 12)
    writer.join()
    expected = [(str(folder / f"{name}.cxi"), f"//{number}") for name in "ab" for number in range(6)]
    assert sorted((row["file"], row["event"]) for row in rows(tmp_path / "o")) == expected
    assert (tmp_path / "o" / "hits.lst").read_text().count("a.cxi //3\n") == 1
