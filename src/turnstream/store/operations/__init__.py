"""All writes except those of the journal.

A write refuses before it changes rows, so that its group can be committed.
"""
