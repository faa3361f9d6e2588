"""What the routes of all dialects share: from a request to its answer."""
