"""What an execution shows while it runs."""
