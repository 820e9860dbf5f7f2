"""Runs one item through one plan: on the event loop where it waits, in lane threads where it computes."""
