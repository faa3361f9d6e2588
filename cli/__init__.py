"""The `baton` command: it starts and watches the processes of one machine, and is a client of the API."""
