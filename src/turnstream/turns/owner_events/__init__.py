"""Watchers of many turns over one connection."""
