"""A stream with the events of many turns: its cursor, and its events about chats."""
