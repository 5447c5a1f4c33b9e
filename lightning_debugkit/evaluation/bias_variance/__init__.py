"""What `BiasVarianceReport` is made of: what is counted, where the errors come from, and what they mean."""
