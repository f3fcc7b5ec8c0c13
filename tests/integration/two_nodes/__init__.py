"""Tests on a cluster of two nodes, which starts and ends with this package."""
