"""The bounded-parallelism dispatcher: gives items a seat and a slot, and hands over their results."""
