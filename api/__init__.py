"""The API: accepts requests as jobs and relays their streams to any number of clients. It does not import torch."""
