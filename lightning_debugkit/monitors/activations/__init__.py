"""What `ActivationMonitor` is made of: a mode that watches the operations of one step, and rules that judge many."""
