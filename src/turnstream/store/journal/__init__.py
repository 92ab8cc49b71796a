"""The journal in the store: pages with the growth of open blocks, and the writes and reads of these pages."""
