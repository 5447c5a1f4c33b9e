"""A corpus of small faulty programs, each modelled on a cited real bug, and the runner that scores what is said."""
