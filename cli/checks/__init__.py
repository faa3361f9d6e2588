"""What `baton doctor` looks at: each module holds the checks of one thing, each check answers findings."""
