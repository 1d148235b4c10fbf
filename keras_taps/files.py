"""Files that are whole or absent: written beside their place, then renamed."""

import csv
import errno
import json
import os
from pathlib import Path

PARTIAL = ".partial-"  # how the names of unfinished files begin


def write_atomically(path, write):
    """Call `write(temporary_path)` and rename the result to `path`.

    The temporary name keeps the ending, by which Keras and matplotlib choose a format.
    """
    path = Path(path)
    temporary = path.with_name(f"{PARTIAL}{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        reason = f"No space is left to write '{path}'. What was there before is whole"
        raise OSError(
            errno.ENOSPC, f"{reason}; once there is space, the same command resumes."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path, content):
    """Write `content` as JSON."""
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def write_csv(path, rows):
    """Write a list of dictionaries as CSV; columns in order of first appearance."""
    columns = list(dict.fromkeys(column for row in rows for column in row))

    def write(temporary):
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def read_csv(path):
    """Rows of a CSV file as dictionaries of floats; empty cells are left out."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(cell) for name, cell in row.items() if cell} for row in rows]
