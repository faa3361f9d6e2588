"""The API: takes requests as jobs, relays their streams to any number of clients. No torch."""
