"""The node types, one file each, options included."""
