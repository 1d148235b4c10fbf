"""The trusted base: reports, proofs and the checker that repeats them, with NumPy alone."""
