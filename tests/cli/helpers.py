"""What the tests of the commands share."""

from keras_taps.cli import main


def call(capsys, *arguments):
    """Exit code and what was printed."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    return code or 0, printed.out, printed.err


def refused(capsys, message, *arguments, code=2):
    """Assert that a command ends with this exit code and message, and no traceback."""
    found, out, err = call(capsys, *arguments)
    assert found == code, out + err
    assert message in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in out + err
