"""What stands behind each command of `python -m pipeline`."""
