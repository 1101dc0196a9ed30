"""What a running server counted, held against a run."""
