"""How long does a key take on the curation page, with ten thousand images?

    PYTHONPATH=src:tests python benchmarks/look.py            headless Chromium; a minute or two
    PYTHONPATH=src:tests python benchmarks/look.py --images 100000

Each key is pressed many times, the next one as soon as the last one's frame is there, while the words are saved to disk. Milliseconds are from the key event's own time to the
frame that shows what it did; a page that keeps within 100 ms feels instant. Beside them are processor times, which a busy machine does
not lengthen: of the page's main thread, and of all that Chromium's processes do for a key, drawing and talking to this script included.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from chromium import Page, chromium
from figment.images_in import by_hand
from figment.layout import Run
from looked_at import make_run, served

KEYS = {"r": 50, "a": 50, "u": 50, "ArrowDown": 50, "PageDown": 50, "End": 5, "Home": 5}  # how often
SEEN = """
window.took = [];
addEventListener('keydown', (event) => {
  const frame = new MessageChannel();
  frame.port1.onmessage = () => took.push(performance.now() - event.timeStamp);
  requestAnimationFrame(() => frame.port2.postMessage(0));  // the message comes after the frame is drawn
}, true);
"""


def pressed(page: Page, key: str, times: int) -> dict[str, float]:
    """Milliseconds: from key to frame, and of the main thread's work."""
    page.run("took.length = 0")
    before, all_before = busy(page), all_busy(page)
    for i in range(times):
        page.press(key)
        page.until(f"took.length === {i + 1}")
    took = np.array(page.run("took"))
    return {
        "times": times,
        "median": float(np.median(took)),
        "p95": float(np.quantile(took, 0.95)),
        "most": float(took.max()),
        "main thread": (busy(page) - before) * 1000 / times,
        "all processes": (all_busy(page) - all_before) * 1000 / times,
    }


def busy(page: Page) -> float:
    """Processor seconds of the page's main thread so far."""
    return {one["name"]: one["value"] for one in page.call("Performance.getMetrics")["metrics"]}["ThreadTime"]


def all_busy(page: Page) -> float:
    """Processor seconds of all of the browser's processes so far."""
    own = psutil.Process(page.browser.process)
    return sum(sum(one.cpu_times()[:2]) for one in (own, *own.children(recursive=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=32, help="pixels")
    n, side = vars(parser.parse_args()).values()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", n, side=side)
        with served(run) as server, chromium(Path(folder) / "profile") as browser:
            page = browser.page()
            page.call("Performance.enable", timeDomain="threadTicks")
            started = time.monotonic()
            page.open(server.server.url)
            page.until("document.body?.dataset.ready")
            print(f"{n:,} images of {side} px; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
            print(
                f"opened in {time.monotonic() - started:.2f} s, {page.run('document.querySelectorAll(`.cell`).length')} elements"
            )
            page.run(SEEN)
            print(
                "| key | pressed | median ms | 95 % ms | most ms | main thread ms | all processes ms |\n|---|---|---|---|---|---|---|"
            )
            rows = {key: pressed(page, key, times) for key, times in KEYS.items()}
            for key, row in rows.items():
                print(
                    f"| {key} | {row['times']} | "
                    + " | ".join(f"{row[c]:.1f}" for c in ("median", "p95", "most", "main thread", "all processes"))
                    + " |"
                )
            page.until("document.querySelector('#saved').textContent === 'saved'")
            said = by_hand.read(Run(run)).said
            print(
                f"{len(said):,} words on the disk; all keys within 100 ms: {max(r['most'] for r in rows.values()) <= 100}"
            )
            print(json.dumps(rows))


if __name__ == "__main__":
    main()
