"""The parts of the window. Each draws one thing, and none of them sends requests."""
