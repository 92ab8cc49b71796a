"""Styles of text on a terminal."""
