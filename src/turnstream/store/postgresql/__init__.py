"""Code for PostgreSQL only: its driver, its connections, its lock."""
