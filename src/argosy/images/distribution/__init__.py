"""Container registries, by the OCI distribution specification 1.1: log in, push, pull, referrers."""
