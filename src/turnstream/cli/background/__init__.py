"""The background server of one user: found or started by a window, and ended when it is not used any more."""
