"""`baton bench`: a load generator for any server that speaks OpenAI's chat completions."""
