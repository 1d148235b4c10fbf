"""The search for proofs in fast arithmetic: bounds, branch and bound."""
