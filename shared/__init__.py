"""What every process of Baton shares: jobs, events, the store and its scripts. No torch, no FastAPI."""
