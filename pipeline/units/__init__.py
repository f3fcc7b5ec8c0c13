"""Sequences of units: what is done with them once no audio is in sight."""
