"""A worker process of a study: `python -m keras_taps.tuning.worker STUDY SEARCH [DATA_DIR]`."""

import sys

from keras_taps.tuning.study import Study

if __name__ == "__main__":
    folder, name, *data_dir = sys.argv[1:]
    Study.open(folder, *data_dir).run(name)
