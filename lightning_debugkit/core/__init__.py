"""What every room stands on: findings, rules, the journal, the run, and ways of doing things once."""
