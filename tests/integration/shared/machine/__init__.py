"""What the state machine of test_store_machine.py is made of."""
