"""What processes owe each other: a folder has one writer, and no worker outlives its chief."""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK, _HOLDER = ".lock", ".writer.json"
_HELD: dict[Path, int] = {}  # the threads of this process that hold a folder, by its path


class FolderInUse(OSError):
    """Another process writes into a folder."""


@contextlib.contextmanager
def one_writer(folder, what):
    """Context in which this process alone writes into a folder; its thread may enter again.

    The operating system frees the lock when the process ends, however it ends.

    Args:
        folder: Path of a folder, which is made, or `None` for nothing to hold.
        what: What the message calls it, such as "Run folder 'runs/taps'".

    Raises:
        FolderInUse: If another process, or another thread, holds it.

    Example:

    >>> import tempfile
    >>> from keras_taps.processes import one_writer
    >>> with tempfile.TemporaryDirectory() as folder, one_writer(folder, "The folder"):
    ...     print("mine")
    mine
    """
    if folder is None or _HELD.get(Path(folder).resolve()) == threading.get_ident():
        yield
        return
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUse(
            f"{what} is in use: {_holder(folder)} writes into it. Wait for it to end, or end it."
        ) from None
    try:
        _HELD[folder] = threading.get_ident()
        _sign(folder)
        yield
    finally:
        _HELD.pop(folder, None)
        (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _sign(folder):
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    content = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    (folder / _HOLDER).write_text(json.dumps(content))


def _holder(folder):
    try:
        found = json.loads((folder / _HOLDER).read_text())
        return f"process {found['pid']} on {found['host']}, since {found['since']},"
    except (OSError, ValueError, KeyError, TypeError):  # it has not signed yet
        return "another process"


def end_with_chief():
    """Have this process end when the one that started it ends: its standard input closes then."""

    def wait():
        while os.read(0, 1024):  # not `sys.stdin`, which the end of the process waits for
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
