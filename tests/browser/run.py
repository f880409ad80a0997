"""Runs every test of this folder in one Chromium, and tells how long each took. Started by tests/it/page.rs:

    RALIO_RELAY_PAGE_TESTS=views RALIO_RELAY_PAGE_SHOTS=/tmp/shots cargo test --locked --test it page:: -- --nocapture

runs those whose name holds `views`, and leaves pictures of every view in a directory that is there.
"""

import sys
import time
import traceback

from playwright.sync_api import expect, sync_playwright

import hostile
import keyboard
import operating
import reading
import views
from support import DEADLINE

# Operating comes last but for what looks at its traces: a replay in the list, a job in the record.
MODULES = [operating, reading, hostile, keyboard, views]


def main():
    wanted = sys.argv[1:]
    tests = [(f"{module.__name__}.{name}", test) for module in MODULES for name, test in vars(module).items() if name.startswith("test_")]
    tests = [(name, test) for name, test in tests if not wanted or any(part in name for part in wanted)]
    failed = []
    expect.set_options(timeout=DEADLINE * 1000)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        for name, test in tests:
            begun = time.monotonic()
            try:
                test(browser)
                outcome = "ok"
            except Exception:
                traceback.print_exc(file=sys.stdout)
                failed.append(name)
                outcome = "FAILED"
            print(f"{name}: {outcome} in {time.monotonic() - begun:.1f} s", flush=True)
        browser.close()
    print(f"{len(tests) - len(failed)} of {len(tests)} passed; failed: {', '.join(failed) or 'none'}")
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
