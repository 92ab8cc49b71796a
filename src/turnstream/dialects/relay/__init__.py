"""The relay's stream of chunks, cost and end."""
