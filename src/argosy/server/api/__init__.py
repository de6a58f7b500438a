"""The REST API, one file a noun: each only turns requests into calls of the stages and records into answers."""
