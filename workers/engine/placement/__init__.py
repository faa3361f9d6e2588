"""Which slots and pages of the cache each sequence has. No torch."""
