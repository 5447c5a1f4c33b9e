"""Code that was captured beside the code of now."""
