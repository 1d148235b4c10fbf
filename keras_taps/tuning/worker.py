"""A worker process of a study: `python -m keras_taps.tuning.worker STUDY SEARCH [DATA_DIR]`."""

import os
import sys

from keras_taps.processes import end_with_chief
from keras_taps.tuning.study import Study
from keras_taps.tuning.workers import CHIEF

if __name__ == "__main__":
    if os.environ.get(CHIEF):
        end_with_chief()
    folder, name, *data_dir = sys.argv[1:]
    Study.open(folder, *data_dir).work(name)
