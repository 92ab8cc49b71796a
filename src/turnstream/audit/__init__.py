"""The audit log: a chain of records of the acts of owners, models and tools, in a file that only grows."""
