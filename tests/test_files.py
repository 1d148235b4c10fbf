"""Files are whole or absent, whatever happens while they are written."""

import errno

import pytest

from keras_taps.files import read_csv, write_atomically, write_csv


def test_files_are_whole_or_absent(tmp_path):
    path = tmp_path / "table.csv"
    write_csv(path, [{"a": 1.0}, {"a": 2.0, "b": 0.5}])

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert read_csv(path) == [{"a": 1.0}, {"a": 2.0, "b": 0.5}]
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_a_full_disk_names_the_file(tmp_path):
    (tmp_path / "file.json").write_text("before")

    def write(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"to write '.*file.json'.*the same command resumes"):
        write_atomically(tmp_path / "file.json", write)
    assert (tmp_path / "file.json").read_text() == "before"
