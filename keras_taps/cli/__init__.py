"""The command line: one file a command, the same as `python -m keras_taps`."""

from keras_taps.cli.app import main

__all__ = ["main"]
