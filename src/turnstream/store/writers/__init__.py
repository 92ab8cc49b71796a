"""The writers: writes in groups, their order, and what happens if the database fails them."""
