"""Speed and memory of batchrun beside hand-written programs and other tools: `python -m benchmarks --help`."""
