"""HiGHS in a process of its own: what it does there, abort or hang, costs one answer."""

import atexit
import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

GRACE = 1.0  # seconds after its time limit that HiGHS is given to notice
START = 60.0  # seconds that the process may take to start
_SCRIPT = Path(__file__).with_name("highs_worker.py")
_lock = threading.Lock()
_workers: "dict[int, _Worker]" = {}  # by the id of the process that started it


def solve(job, timeout, point=None, bound=None):
    """Have HiGHS minimise a program.

    Args:
        job: Dictionary: arrays `cost`, `lower`, `upper` of the columns; `matrix`, a tuple of row
            starts, columns and values; `row_lower`, `row_upper`; `integer`, a boolean array or
            `None` for a linear program; `start`, values of the columns or `None`; `options`.
        timeout: Seconds; a second later the process is killed.
        point: Called with the columns of each better solution of a mixed-integer program.
        bound: Called with each better lower bound; the search ends if it returns True.

    Returns:
        Dictionary: `status`, a name of HiGHS, 'kTimeLimit' if it was killed and 'kUnknown' if it
        died; `bound`; `nodes`; `columns`; `feasible`, whether these are a solution; `duals` of the
        rows, or `None`.

    Raises:
        RuntimeError: If HiGHS refuses the program.
    """
    options = {"output_flag": False, "time_limit": float(timeout), **job["options"]}
    with _lock:
        worker = _worker()
        try:
            return worker.answer({**job, "options": options}, timeout, point, bound)
        except BaseException:
            worker.close()  # it may still be busy with this job
            raise


def _worker():
    """The process of this process, started when it is first needed or was lost."""
    own = os.getpid()
    worker = _workers.get(own)
    if worker is None or worker.closed or worker.process.poll() is not None:
        worker = _workers[own] = _Worker()
    return worker


class _Worker:
    def __init__(self):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, str(_SCRIPT)], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
        )
        self.closed, self.fresh, self.messages = False, True, queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        atexit.register(self.close)

    def _listen(self):
        try:
            while True:
                self.messages.put(pickle.load(self.process.stdout))
        except Exception:  # it ended, or was killed in the middle of a message
            self.messages.put(("ended", None))

    def close(self):
        """End the process, whatever it does."""
        if not self.closed:
            self.closed = True
            self.process.kill()
            self.process.wait()
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            atexit.unregister(self.close)

    def answer(self, job, timeout, point, bound):
        found = {"status": "kUnknown", "bound": -np.inf, "nodes": 0, "columns": None}
        found |= {"feasible": False, "duals": None}
        if not self._send(job):
            return found
        until = time.monotonic() + timeout + GRACE + START * self.fresh
        while True:
            try:
                kind, content = self.messages.get(timeout=max(until - time.monotonic(), 0.0))
            except queue.Empty:
                self.close()
                return {**found, "status": "kTimeLimit"}
            self.fresh = False
            if kind == "done":
                return content
            if kind == "failed":
                raise RuntimeError(content)
            if kind == "ended":
                self.close()
                return found
            if kind == "point":
                found |= {"columns": content, "feasible": True}
                if point:
                    point(content)
            else:
                found["bound"] = content
                if bound and bound(content):
                    self._send("stop")

    def _send(self, message):
        try:
            pickle.dump(message, self.process.stdin)
            self.process.stdin.flush()
        except OSError:  # it died between two jobs
            self.close()
            return False
        return True
