"""Pure maths on tensors and numbers: no Lightning, no files, no clock."""
