"""Chats and statistics of the past: at a server, or in the user's own database."""
