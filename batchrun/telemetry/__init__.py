"""What an execution shows and tells while it runs."""
