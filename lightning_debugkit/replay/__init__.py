"""Re-run one batch under instruments; knows torch, but neither Lightning nor files of a run."""
