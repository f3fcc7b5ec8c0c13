"""Sound files: what their headers promise, held against the bytes that are there."""
