"""The dialect of Anthropic Messages."""
