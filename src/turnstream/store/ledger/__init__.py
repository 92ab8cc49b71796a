"""The ledger of tool calls: rows of the calls that have begun, until their results are stored as blocks."""
