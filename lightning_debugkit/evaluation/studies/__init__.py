"""What one run cannot tell: functions that train a model of yours several times and say what came of it."""
