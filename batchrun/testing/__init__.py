"""Help for tests of batchrun itself and of workflows built with it."""
