"""Throughput: batches that overlap score as single frames do, and the harness tells a wrong answer and a whole record."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import screen_cases as cases

from bench.throughput import __main__ as throughput
from bench.throughput import frame_stages, inputs, screening_stages, stages, timing
from bench.throughput import table as throughput_table
from sfxjax.compilation import keep_compiled
from sfxjax.crop import padded_crop
from sfxjax.data.batches import CropBatch, filled, overlapped
from sfxjax.devices import simulate_devices
from sfxjax.errors import UserError
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.networks import HitClassifier
from sfxjax.models.stem import BaseConfig, stem
from sfxjax.preprocess.definition import normalize_pixels, preprocess
from sfxjax.preprocess.validity import settle
from sfxjax.screen.scorer import Screener


def tiny_model() -> TrainedModel:
    return inputs.random_model(BaseConfig(channels=(2, 2)), None)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return inputs.random_frames(7, 724, 0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of few frames, so that stages are over soon."""
    monkeypatch.setattr(stages.Setting, "batch", 4)
    monkeypatch.setattr(stages.Setting, "vectors", 32)


@pytest.mark.slow
def test_batches_under_way_together_score_as_single_frames(crops: np.ndarray) -> None:
    device = jax.local_devices()[:1]
    single = Screener(tiny_model(), batch_size=1, devices=device)
    expected = [single.score_crops(crop[None], None).scores[0] for crop in crops]
    assert np.ptp(expected) > 0.05, "frames must differ for this test to mean anything"
    for size, devices in ((3, device), (4, jax.local_devices()[:2])):
        screener = Screener(tiny_model(), batch_size=size, devices=devices)
        batches = [CropBatch(crops[begin : begin + size]) for begin in range(0, len(crops), size)]
        found = [(batch, scores.scores) for batch, scores in screener.score_batches(iter(batches))]
        assert [batch for batch, _ in found] == batches
        np.testing.assert_allclose(np.concatenate([scores for _, scores in found]), expected, atol=1e-6)
    there = screener.score_crops(jax.device_put(crops[:4]), None).scores
    np.testing.assert_allclose(there, expected[:4], atol=1e-6)


def test_an_accelerator_is_sent_batches_by_a_thread_and_from_memory_that_is_filled_for_it(
    crops: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    screener = Screener(tiny_model(), batch_size=2, devices=jax.local_devices()[:1])
    good = np.ones(crops.shape[1:], bool)
    good[200:500] = False
    batches = [CropBatch(crops[begin : begin + 2], good if begin else None) for begin in (0, 2, 4)]
    expected = [screener.score_crops(batch.crops, batch.mask).scores for batch in batches]
    monkeypatch.setattr(screener, "_on_cpu", False)
    monkeypatch.setattr(screener, "_pieces", 1)
    found = list(screener.score_batches(enumerate(batches), lambda item: item[1]))
    assert [place for (place, _), _ in found] == [0, 1, 2]
    memories = []
    for batch in batches:
        memory = screener.memory(crops.dtype)
        memory.array[:] = batch.crops
        memories.append(CropBatch(memory, batch.mask))
    from_memory = list(screener.score_batches(memories))
    for ours in (found, from_memory):
        for (_, scores), wanted in zip(ours, expected, strict=True):
            np.testing.assert_allclose(scores.scores, wanted, atol=1e-6)
    # It is taken back.
    assert any(screener.memory(crops.dtype) is batch.crops for batch in memories)


def test_a_mask_that_is_kept_on_the_device_is_noticed_when_it_changes(crops: np.ndarray) -> None:
    screener = Screener(tiny_model(), batch_size=2, devices=jax.local_devices()[:1])
    good = np.ones(crops.shape[1:], bool)
    before = screener.score_crops(crops[:2], good).scores
    good[200:500] = False
    after = screener.score_crops(crops[:2], good).scores
    fresh = (
        Screener(tiny_model(), batch_size=2, devices=jax.local_devices()[:1])
        .score_crops(crops[:2], good)
        .scores
    )
    np.testing.assert_array_equal(after, fresh)
    assert np.all(before != after)


def test_the_next_item_is_started_before_a_result_is_waited_for() -> None:
    said: list[str] = []

    def start(item: int) -> int:
        said.append(f"start {item}")
        return 10 * item

    def finish(started: int) -> int:
        said.append(f"finish {started // 10}")
        return started + 1

    assert list(overlapped([1, 2, 3], start, finish, ahead=1)) == [(1, 11), (2, 21), (3, 31)]
    assert said == ["start 1", "start 2", "finish 1", "start 3", "finish 2", "finish 3"]
    assert list(overlapped([], start, finish, ahead=4)) == []


@pytest.mark.parametrize(("sent", "expected"), [(0, 40.0), (1, 21.0)])
def test_copies_and_work_go_on_at_a_time_where_the_next_item_is_sent_first(
    sent: int, expected: float
) -> None:
    """A model of an accelerator: a copy, which takes 1, waits for all work that was started before, and work for its copy."""
    copied = worked = 0.0

    def items() -> Iterator[float]:
        nonlocal copied
        for _ in range(20):
            copied = max(copied, worked) + 1
            yield copied

    def start(there: float) -> float:
        nonlocal worked
        worked = max(worked, there) + 1
        return worked

    for _ in overlapped(items(), start, lambda done: done, ahead=1, sent=sent):
        pass
    assert worked == expected


def test_frames_are_copied_only_where_they_must_be() -> None:
    frames = np.arange(3 * 8 * 8, dtype=np.int16).reshape(3, 8, 8)
    assert filled(frames, 3) is frames
    more = filled(frames[:, 2:6, 1:5], 5, 7)
    assert more.dtype == np.int16 and more.flags.c_contiguous
    np.testing.assert_array_equal(more[:3], frames[:, 2:6, 1:5])
    assert np.all(more[3:] == 7) and len(more) == 5
    large = cases.frames(2, 800)
    assert np.shares_memory(padded_crop(large, large.dtype), large)


@pytest.mark.parametrize(
    ("name", "place", "wrong"),
    [
        ("gcn-lcn", "preprocess", lambda frames: frame_stages.map_frames(_off_by_little, frames)),
        ("row_wise", "REDUCTIONS", {"row_wise_decomposition": lambda frame, _: frame.max(1)}),
    ],
)
def test_a_wrong_fast_path_ends_the_run(
    name: str,
    place: str,
    wrong: object,
    small: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(frame_stages, place, wrong)
    record = tmp_path / "record.json"
    status = throughput.main(["--quick", "--seconds", "0.01", "--only", name, "--json", str(record)])
    assert status == throughput.EXIT_WRONG_ANSWER
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("wrong answer: ") and "differ from the reference" in said
    found = json.loads(record.read_text())
    assert found["stages"] == [] and len(found["wrong_answers"]) == 1


def _off_by_little(frame: jax.Array, _: object) -> jax.Array:
    normalized, _ = normalize_pixels(settle(frame, None, math.inf, False)[0])
    return normalized.at[300, 300].add(1e-3)


@pytest.mark.slow
def test_wrong_scores_of_a_screener_are_found(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    setting = stages.Setting(real=(cases.frames(1, 724), np.ones((724, 724), bool)))
    screener = Screener(setting.model_1d, batch_size=4, devices=[setting.device])
    screening_stages.check_screener(screener, setting)
    finish = screener.finish

    def swapped(started: object) -> object:
        scores = finish(started)
        return type(scores)(scores.scores[::-1], scores.reasons, scores.statistics)

    monkeypatch.setattr(screener, "finish", swapped)
    with pytest.raises(stages.WrongAnswer, match="random frames"):
        screening_stages.check_screener(screener, setting)


@pytest.mark.slow
def test_the_record_is_whole(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "record.json"
    only = "crop,row_wise,1d-cnn-bfloat16,host-724-1d"
    assert throughput.main(["--quick", "--seconds", "0.01", "--only", only, "--json", str(path)]) == 0
    record = json.loads(path.read_text())
    assert [stage["name"] for stage in record["stages"]] == [
        "crop",
        "row_wise_decomposition",
        "1d-cnn-bfloat16",
        "host-724-1d",
    ]
    assert record["machine"]["versions"]["jax"] == jax.__version__
    assert record["machine"]["platform"] == "cpu" and record["copy_bytes_per_second"] > 1e8
    assert record["bus_bytes_per_second"] is None
    for stage in record["stages"]:
        rate = stage["rate"]
        assert 0 < rate["low"] <= rate["median"] <= rate["high"]
        assert rate["repeats"] >= timing.LEAST_REPEATS and rate["batch"] >= 1
        assert stage["section"] in throughput_table.SECTIONS and stage["input"] and stage["bytes_a_frame"] > 0
        assert stage["peak_bytes_so_far"] > 1e7
        share = rate["median"] * stage["bytes_a_frame"] / record["copy_bytes_per_second"]
        assert stage["share_of_copy_bandwidth"] == pytest.approx(share, rel=1e-2)
    by_name = {stage["name"]: stage for stage in record["stages"]}
    # Multiplications and additions of the two convolutions of the 1D network alone.
    assert 2 * 3 * (720 * 8 + 360 * 8 * 16) < by_name["1d-cnn-bfloat16"]["operations_a_frame"] < 1e6
    assert by_name["host-724-1d"]["bytes_a_frame_over_bus"] == 2 * 724 * 724
    assert by_name["crop"]["program_bytes"] >= 4 * 2 * 1920 * 1920
    shown = capsys.readouterr().out
    assert all(title in shown for title in ("one step alone", "frames in host memory"))
    throughput_table.main([str(path)])
    written = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("|---") for line in written) == 2
    assert all(sum(line.startswith(f"| {name} |") for line in written) == 1 for name in by_name)
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.slow
def test_every_stage_is_right_and_timed(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main(["--seconds", "0.01", "--file-frames", "10", "--minutes", "60"]) == 0
    shown = capsys.readouterr().out
    for stage in throughput.chosen_stages(None):
        assert f"\n{stage.name} " in shown


def test_options_that_make_no_sense_are_refused() -> None:
    for arguments, match in (
        (["--only", "3d"], "no stage begins with"),
        (["--seconds", "0"], "must be above 0"),
        (["--devices", "0"], "give at least 1"),
    ):
        with pytest.raises(UserError, match=match):
            throughput.main(arguments)


def test_more_devices_cannot_be_simulated_once_they_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    with pytest.raises(UserError, match="counted already"):
        simulate_devices(len(jax.devices()) + 1)


def test_rates_and_operations() -> None:
    rate = timing.rate_of([1.0, 2.0, 4.0], [2.0, 3.0, 4.0], 8)
    assert (rate.median, rate.low, rate.high, rate.repeats) == (4.0, 3.0, 6.0, 3)
    assert rate.processor == 3 / 8
    seen: list[int] = []
    measured = timing.measure_in_turns(
        [timing.Timed(lambda batch: seen.append(batch), [1, 2, 3], 10)], 0.0, rounds=1
    )
    assert seen == [1, 2, 3, 1, 2, 3, 1, 2] and measured[0].repeats == timing.LEAST_REPEATS
    matrix = jax.ShapeDtypeStruct((32, 32), jnp.float32)
    assert timing.operations([(jnp.matmul, (matrix, matrix), 3)]) == pytest.approx(3 * 2 * 32**3, rel=0.01)


def test_compare_takes_no_number_for_no_number() -> None:
    stages.compare("x", [1.0, np.nan], [1.0 + 1e-7, np.nan], atol=1e-6)
    for fast in ([np.nan, np.nan], [1.1, np.nan], [1.0, 0.0], [1.0]):
        with pytest.raises(stages.WrongAnswer):
            stages.compare("x", fast, [1.0, np.nan], atol=1e-6)


@pytest.mark.slow
def test_blocks_in_bfloat16_give_nearly_the_same_logits() -> None:
    model = inputs.random_model(BaseConfig(channels=(4, 4)), None)
    frames = np.stack([preprocess(frame) for frame in cases.frames(4, 724)])
    maps = stem(jnp.asarray(frames), model.config)
    exact = HitClassifier(model.config).apply(model.variables, maps)
    coarse = HitClassifier(model.config, dtype=jnp.bfloat16).apply(model.variables, maps)
    atol = 0.05
    assert np.ptp(exact) > 3 * atol
    assert coarse.dtype == jnp.float32
    assert np.all(exact != coarse), "they must have been computed otherwise"
    np.testing.assert_allclose(coarse, exact, atol=atol)


def test_compiled_programs_are_kept_only_if_asked_for_and_privately(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jax.experimental.compilation_cache import compilation_cache

    monkeypatch.setenv("SFXJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SFXJAX_COMPILATION_CACHE", "0")
    assert keep_compiled() is None and not (tmp_path / "cache").exists()
    settings = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in settings]
    try:
        monkeypatch.setenv("SFXJAX_COMPILATION_CACHE", "1")
        (tmp_path / "cache" / "compiled").mkdir(parents=True, mode=0o755)
        folder = keep_compiled()
        assert folder is not None and folder.is_relative_to(tmp_path / "cache")
        for part in (folder, folder.parent):
            assert stat.S_IMODE(part.stat().st_mode) == 0o700
        jax.config.update(settings[1], 0.0)
        compilation_cache.reset_cache()
        jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((17, 3))).block_until_ready()
        assert any(path.is_file() for path in folder.rglob("*"))
    finally:
        for name, value in zip(settings, before, strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_programs_are_not_read_from_a_folder_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFXJAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "compiled").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="not a folder of yours"):
        keep_compiled(True)
