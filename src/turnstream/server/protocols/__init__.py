"""Routes of the protocols that clients of other systems speak."""
