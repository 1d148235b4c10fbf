"""Experiments: recipes, run folders, evaluation."""
