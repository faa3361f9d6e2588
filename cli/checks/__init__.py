"""The checks of `baton doctor`. Each module checks one thing; each check returns findings."""
