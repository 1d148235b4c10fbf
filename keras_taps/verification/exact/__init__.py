"""Exact answers by mixed-integer programming."""
