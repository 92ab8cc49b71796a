"""The events of many turns in one stream: those of the chats, and the cursor."""
