"""Benchmarks: `python -m benchmarks` measures the goals on this machine and prints them as a table.

Numbers of two machines cannot be compared. So other software does the same work in the same run.
"""
