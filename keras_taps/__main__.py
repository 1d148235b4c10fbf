"""`python -m keras_taps`."""

from keras_taps.cli import main

main()
