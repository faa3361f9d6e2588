"""`baton bench`: a load generator for any server with an OpenAI-compatible chat completions API."""
