"""Taking turns over from other nodes."""
