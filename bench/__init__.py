"""Argosy measured against other servers, itself and its budgets: `make bench`. docs/benchmarks.md says how."""
