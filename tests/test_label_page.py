"""The page to label in, in a real browser: labels by keys, a kill in the middle, nothing lost and nothing twice."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sfxjax.label.store import final, read_label_records
from sfxjax.simulate.conditions import Condition, draw_frame
from sfxjax.spots.recalibration import Recalibration

FRAMES = 40


def start(run: Path, folder: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "sfxjax.label", str(run), "--out", str(folder), "--audit", "10"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"http://127\S+", line):
            return server, found[0]
    raise AssertionError("the page did not open")


def wait(true: Callable[[], Any]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def test_ctrl_c_ends_it_in_order_and_the_printed_next_step_runs(tmp_path: Path) -> None:
    run = tmp_path / "a run.h5"
    with h5py.File(run, "w") as file:
        file["entry/data/data"] = np.random.default_rng(0).poisson(40, (2, 128, 128)).astype(np.uint16)
    folder = tmp_path / "my labels"
    Recalibration(labels=3).save(folder)
    command = [sys.executable, "-m", "sfxjax.label", str(run), "--out", str(folder)]
    options = ["--dataset", "/entry/data/data", "--allow-links"]
    server = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        printed = ""
        while "next, after Ctrl-C: " not in printed:
            printed = server.stdout.readline()
            assert printed
        time.sleep(0.5)
        server.send_signal(signal.SIGINT)
        said, complaints = server.communicate(timeout=20)
    finally:
        server.kill()
    assert server.returncode == 0 and said == "ended: no frame was labelled\n"
    assert "error" not in complaints and "Traceback" not in complaints
    line = printed.removeprefix("next, after Ctrl-C: ").replace("DIR", shlex.quote(str(tmp_path / "o")))
    assert shlex.quote(str(run)) in line and "--dataset /entry/data/data --allow-links" in line
    ended = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0 and "fitted to 3 labels" in ended.stdout, ended.stderr
    assert "<td>the day-one model, fitted to 3 labels; " in (tmp_path / "o" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs Chromium and its driver"
)
def test_thirty_frames_by_keys_with_a_kill_in_the_middle(tmp_path: Path) -> None:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By

    rng = np.random.default_rng(3)
    frames = [
        draw_frame(rng, Condition("counting", 3.0, 0.8, spots, "none", (), (480, 480))).values
        for spots in [0, 15] * (FRAMES // 2)
    ]
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["entry/data/data"] = np.array(frames)
    folder = tmp_path / "labels"
    server, address = start(tmp_path / "run.h5", folder)
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,900"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.get(address)
        body = browser.find_element(By.TAG_NAME, "body")
        wait(lambda: body.get_attribute("data-frame"))
        for number in range(30):
            shown = body.get_attribute("data-frame")
            if number == 15:
                server.kill()
                server.wait()
            body.send_keys("123"[number % 3])
            if number == 15:
                # The label waits in the browser until the same command is given again.
                server, again = start(tmp_path / "run.h5", folder)
                assert again == address
            before = shown
            wait(lambda before=before: body.get_attribute("data-frame") != before)
        wait(lambda: body.get_attribute("data-labels") == "30")
        records = read_label_records(folder / "labels.labels.jsonl")
        assert len(records) == len(final(records)) == len({record.click for record in records}) == 30
        assert [record.label for record in records] == ["HIT", "MAYBE", "MISS"] * 10
        body.send_keys("u")
        wait(lambda: body.get_attribute("data-labels") == "29")
        # What a finger can do, which has no keys.
        press = {
            name: browser.find_element(By.ID, name).click for name in ("b2", "undo", "mark", "zoom", "more")
        }
        press["b2"]()
        wait(lambda: body.get_attribute("data-labels") == "30")
        press["undo"]()
        wait(lambda: body.get_attribute("data-labels") == "29")
        svg, spots = (browser.find_element(By.ID, name) for name in ("svg", "spots"))
        assert [float(text) for text in svg.get_dom_attribute("viewBox").split()] == [0, 0, 480, 480]
        assert spots.get_dom_attribute("visibility") == "hidden"
        press["mark"]()
        press["more"]()
        assert spots.get_dom_attribute("visibility") == "visible"
        red = browser.find_element(By.CSS_SELECTOR, "feFuncR")
        assert float(red.get_dom_attribute("slope")) == pytest.approx(1.2)
        press["zoom"]()
        assert [float(text) for text in svg.get_dom_attribute("viewBox").split()][2:] == [120, 120]
        # Out again by a click on the frame, and in where it is clicked: the frame's middle.
        browser.find_element(By.ID, "view").click()
        browser.find_element(By.ID, "view").click()
        box = [float(text) for text in svg.get_dom_attribute("viewBox").split()]
        assert box == pytest.approx([180, 180, 120, 120], abs=2)
        press["zoom"]()
        press["mark"]()
        assert browser.get_log("browser") == [] or all(
            "ERR_CONNECTION_REFUSED" in entry["message"] or "favicon" in entry["message"]
            for entry in browser.get_log("browser")
        )
        if pictures := os.environ.get("SFXJAX_PAGE_PICTURES"):
            body.send_keys("s")
            time.sleep(1)
            browser.save_screenshot(f"{pictures}/label-1400.png")
            browser.set_window_size(390, 900)
            time.sleep(1)
            browser.save_screenshot(f"{pictures}/label-390.png")
    finally:
        browser.quit()
        server.kill()
