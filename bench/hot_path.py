def record(r): pass
