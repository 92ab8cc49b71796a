"""Nodes: the processes that share a database, and their leases."""
