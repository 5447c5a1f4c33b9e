"""A model rebuilt with the code it was trained with."""
