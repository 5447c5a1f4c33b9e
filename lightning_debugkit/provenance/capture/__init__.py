"""Which code a run uses: found, read and kept."""
