"""The program itself, looked at in its first steps and by a few extra passes."""
