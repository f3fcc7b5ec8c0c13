"""Scores of units and of what is made from them, their comparison and their plots."""
