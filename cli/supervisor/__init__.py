"""`baton up`: starts Baton's processes on this machine, restarts them when they die and stops them in order."""
