"""What `ExactResume` is made of: random states in plain form, a loader's place, and what cannot be exact."""
