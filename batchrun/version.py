"""The version of batchrun."""

VERSION = "0.1.0"
