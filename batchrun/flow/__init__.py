"""Pure decisions: how long to wait, what to do about a failure, when to stop. No waiting, no input or output."""
