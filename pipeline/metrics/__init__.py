"""Scores of units and of what is made from them. Needs numpy alone."""
