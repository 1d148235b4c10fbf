"""A search by several processes of this machine: KerasTuner's chief here, workers beside it."""

import contextlib
import math
import os
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import keras_tuner
from keras_tuner.src.engine import conditions

from keras_taps.checks import check_count

CHIEF = "KERAS_TAPS_CHIEF"  # set for workers: their standard input is open as long as the chief is
_PAUSE_S = 0.2  # between looks at the workers
_TAIL = 2000  # characters of a log in a message


def search_with_workers(tuner: keras_tuner.Tuner, command: Sequence[str], count: int) -> None:
    """Run a search by `count` worker processes and return when it is over.

    A worker that ends in the middle of a trial, killed for its memory for instance, makes the trial
    failed, and another takes its place. The log of a worker lies in the folder of the search.

    A worker that calls `processes.end_with_chief` ends with this process, however it ends.

    Args:
        tuner: Tuner of KerasTuner, made in a process that is neither chief nor worker.
        command: List of strings: the process that makes the same tuner and calls its `search`.
        count: Number of workers, >= 1.

    Raises:
        ValueError: If `count` is out of range.
        ChildProcessError: If the workers end before the search does.

    References:
        KerasTuner's guide "Distributed hyperparameter tuning".
    """
    check_count("count", count, low=1)
    folder = Path(tuner.project_dir)
    variables = {
        "KERASTUNER_TUNER_ID": "chief",
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(_free_port()),
    }
    # At its limit KerasTuner's chief raises while it holds a lock, and would never answer again.
    tuner.oracle.max_consecutive_failed_trials = math.inf
    names = [f"worker-{number}" for number in range(1, count + 1)]

    def start(name):
        environment = {**os.environ, **variables, "KERASTUNER_TUNER_ID": name, CHIEF: "1"}
        with open(folder / f"{name}.log", "a") as log:
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    with _set(variables), _silent_conditions():
        chief = _Chief(tuner)
        chief.start()
        workers = {name: start(name) for name in names}
        over = False
        try:
            while workers and chief.is_alive():
                time.sleep(_PAUSE_S)
                for name in [name for name, worker in workers.items() if worker.poll() is not None]:
                    code = workers.pop(name).returncode
                    over = over or code == 0
                    trial = tuner.oracle.ongoing_trials.get(name)
                    if trial is not None:
                        trial.status = "FAILED"
                        trial.message = f"Its process ended with code {code}, see {name}.log."
                        tuner.oracle.end_trial(trial)
                        workers[name] = start(name)
        finally:
            for worker in workers.values():
                worker.terminate()
            for worker in workers.values():
                worker.wait()
                worker.stdin.close()
    if chief.error is not None:
        raise ChildProcessError(f"The chief of the search failed: {chief.error}") from chief.error
    if not over and chief.is_alive():
        path = folder / f"{names[0]}.log"
        raise ChildProcessError(
            f"All workers ended before the search. The end of '{path}':\n"
            f"{path.read_text()[-_TAIL:]}"
        )


class _Chief(threading.Thread):
    """Answers the workers. A daemon: KerasTuner's server looks only every 20 s whether all left."""

    def __init__(self, tuner):
        super().__init__(daemon=True)
        self.tuner, self.error = tuner, None

    def run(self):
        try:
            self.tuner.search(verbose=0)
        except Exception as error:
            self.error = error


@contextlib.contextmanager
def _silent_conditions():
    """KerasTuner 1.4 prints a value of every condition that it sends to a worker."""
    conditions.print = lambda *args: None
    try:
        yield
    finally:
        del conditions.print


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _set(variables):
    """KerasTuner reads what it is from the environment."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
