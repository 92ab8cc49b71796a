"""Reads for lists and branches of chats."""
