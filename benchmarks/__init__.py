"""Benchmarks: `python -m benchmarks` measures DESIGN's goals on this machine and prints them as a table.

Numbers of two machines cannot be compared, so what other software needs for the same work is measured in the
same run.
"""
