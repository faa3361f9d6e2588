"""How events reach one client: the pump, and sinks."""
