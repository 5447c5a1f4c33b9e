"""What `ErrorAnalysis` is made of: reading answers, gathering them, and saying what they show."""
