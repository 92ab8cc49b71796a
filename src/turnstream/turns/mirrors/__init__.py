"""Turns that other nodes write: their logs, for the watchers of this node."""
