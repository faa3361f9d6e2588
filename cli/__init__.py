"""The `baton` command: runs Baton's processes on one machine, and is a client of the API."""
