"""The watchdog interrupts Python code and waiting calls; a process stuck in compiled code ends with one line."""

import subprocess
import sys
import time

import pytest

from dreamset.environments.watchdog import WATCHDOG, Expired


def test_waiting_call_is_interrupted_in_time_and_code_after_it_is_not() -> None:
    began = time.monotonic()
    with pytest.raises(Expired), WATCHDOG.watch(0.1, lambda: ""):
        time.sleep(60)
    assert 0.1 <= time.monotonic() - began < 30
    with WATCHDOG.watch(60, lambda: ""):
        pass
    with WATCHDOG.watch(0.1, lambda: ""):
        pass
    time.sleep(0.3)  # is not interrupted


def test_inner_block_may_not_outlive_its_own_limit() -> None:
    with WATCHDOG.watch(60, lambda: ""):
        with pytest.raises(Expired), WATCHDOG.watch(0.1, lambda: ""):
            time.sleep(60)
        time.sleep(0.3)  # the outer limit counts again


def test_process_that_is_stuck_in_compiled_code_ends_with_one_line_and_the_stack() -> None:
    code = (
        "import hashlib\n"
        "from dreamset.environments.watchdog import Watchdog\n"
        "def stuck():\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"
        "with Watchdog(grace=0.1).watch(0.1, lambda: 'the simulator is stuck'):\n"
        "    stuck()\n"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    first, *stack = ended.stderr.strip().splitlines()
    assert first == "dreamset: error: the simulator is stuck"
    assert any("in stuck" in line for line in stack)
