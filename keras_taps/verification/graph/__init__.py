"""What is verified: a network as float64 arrays, and what its outputs must not do."""
