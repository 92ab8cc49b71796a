"""Requests of all routes: limits on their bodies, and answers to their failures."""
