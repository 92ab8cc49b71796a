"""Transient turns: turns without rows, which live in memory."""
