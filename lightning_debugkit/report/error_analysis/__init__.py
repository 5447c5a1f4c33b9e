"""What an error analysis left, drawn and worded part by part."""
