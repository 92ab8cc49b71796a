"""The AG-UI protocol: requests, events and snapshots."""
