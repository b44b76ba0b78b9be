"""The CTR task: its metrics, trainer and report."""
