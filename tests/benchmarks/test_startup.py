"""The table of start-up times: a row a command, with the ratio where there is something before."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from provenance import provenance
from startup import BEFORE, KERAS, seconds
from startup_table import startup
from tables_format import NOT_MEASURED


def test_table():
    record = {"backend": "jax", "minimum_s": 0.1, "seconds": [0.1] * 3}
    times = {(None, KERAS): 4.0, ("before", "help"): 6.0, ("after", "help"): 0.5}
    records = [
        {**record, "package": package, "command": command, "median_s": time}
        for (package, command), time in times.items()
    ]
    page = startup({"before": BEFORE, "records": records, "provenance": provenance()})
    assert "| `import keras` | JAX | - | 4.00 | - |" in page
    assert "| `help` | JAX | 6.00 | 0.50 | 12.00 |" in page
    assert page.count("JAX") == 2
    assert startup(None) == NOT_MEASURED


def test_a_process_is_timed(tmp_path):
    assert seconds(("-c", "import time; time.sleep(0.1)"), "jax", tmp_path) > 0.1
