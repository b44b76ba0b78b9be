"""Batches of days, and the graph of each."""
