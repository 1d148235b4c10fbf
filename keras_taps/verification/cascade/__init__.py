"""From a question to a verdict: the stages, and the loops over them."""
