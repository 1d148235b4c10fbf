"""A folder in which JAX keeps what it compiles, so that a network is compiled once and not daily.

`JAX_COMPILATION_CACHE_DIR`, or the option of that name in `jax.config`, chooses another folder and
leaves everything to JAX; `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.
"""

import contextlib
import os
import platform
from hashlib import sha256
from pathlib import Path

import jax

_SECONDS = 0.3  # what compiles faster is not kept
_MOST_BYTES = 2 << 30


def keep_compilations():
    """Choose the folder, unless the user did; without one that can be written nothing is kept."""
    config = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    with contextlib.suppress(OSError, RuntimeError):  # no home, or one that cannot be written
        folder = _cache_home() / "keras_taps" / "jax" / _processor()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            shrink(folder, _MOST_BYTES)
            config.update("jax_compilation_cache_dir", str(folder))
            if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
                config.update("jax_persistent_cache_min_compile_time_secs", _SECONDS)


def shrink(folder, most_bytes):
    """Remove the oldest files of a folder with more than `most_bytes`, until half are left."""
    found = [(entry.stat(), entry.path) for entry in os.scandir(folder) if entry.is_file()]
    total = sum(status.st_size for status, _ in found)
    if total > most_bytes:
        for status, path in sorted(found, key=lambda item: item[0].st_mtime):
            if total > most_bytes // 2:
                os.unlink(path)
                total -= status.st_size


def _cache_home():
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _processor():
    """A short name of what code may use here; JAX's keys lack it, and homes are shared."""
    text = f"flags {platform.machine()} {platform.processor()}"
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
    lines = {line for line in text.splitlines() if line.startswith(("flags", "Features"))}
    return sha256("\n".join(sorted(lines)).encode()).hexdigest()[:12]
