"""The journal in the store: pages of what open blocks have gained, the writes of them, and the reads."""
