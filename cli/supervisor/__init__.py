"""`baton up`: starts the parts of Baton on this machine, keeps them alive and stops them in order."""
