"""A folder has one writer, and a worker does not outlive its chief."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from keras_taps.processes import FolderInUse, one_writer

pytestmark = pytest.mark.once

HOLD = """
import sys, time
from keras_taps.processes import one_writer
with one_writer(sys.argv[1], "It"):
    print("held", flush=True)
    time.sleep(60)
"""
CHIEF = """
import subprocess, sys
code = "from keras_taps.processes import end_with_chief; end_with_chief(); print(1, flush=True)"
code += "; import time; time.sleep(60)"
worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=-1)
worker.stdout.readline()
print(worker.pid, flush=True)
worker.wait()
"""


def started(code, *arguments):
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=-1, text=True)
    return process, process.stdout.readline().strip()


def test_the_second_process_says_who_is_first(tmp_path):
    process, said = started(HOLD, str(tmp_path))
    assert said == "held"
    refusal = rf"The folder is in use: process {process.pid} on .*, since 2"
    with pytest.raises(FolderInUse, match=refusal), one_writer(tmp_path, "The folder"):
        pass
    process.kill()  # whatever it held is free
    process.wait()
    with one_writer(tmp_path, "The folder"):
        pass


def test_the_same_thread_may_enter_again_and_another_may_not(tmp_path):
    errors = []

    def try_it():
        try:
            with one_writer(tmp_path, "It"):
                pass
        except FolderInUse as error:
            errors.append(str(error))

    with one_writer(tmp_path, "It"), one_writer(tmp_path / ".", "It"):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(errors) == 1
    assert f"process {os.getpid()}" in errors[0]
    try_it()
    assert len(errors) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) in ([], [".lock"])


def test_nothing_to_hold():
    with one_writer(None, "Nothing"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_worker_ends_with_its_chief():
    chief, worker = started(CHIEF)
    os.kill(chief.pid, signal.SIGKILL)
    chief.wait()
    end = time.monotonic() + 30
    while alive(int(worker)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(int(worker))


def alive(pid):
    """Whether a process runs; one that ended and that nobody asked for is a zombie."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
