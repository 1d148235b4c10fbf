"""An error that the command line tells apart, without importing Keras for its name."""


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number; what was saved before is kept."""
