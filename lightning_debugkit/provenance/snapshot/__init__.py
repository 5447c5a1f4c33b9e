"""Parts of `CodeSnapshot`: what it asks for, what it puts into checkpoints, what it leaves beside the run."""
