"""The stream of a staged agent, and its answers without a stream."""
