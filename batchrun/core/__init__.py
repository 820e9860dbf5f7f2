"""The words of batchrun: jobs, items, results, errors and three small protocols. Standard library only."""
