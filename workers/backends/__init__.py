"""What a worker generates with."""
