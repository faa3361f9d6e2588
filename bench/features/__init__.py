"""What single features of the engine cost, or bring."""
