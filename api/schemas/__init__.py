"""What clients send, checked and normalised."""
