def render(r): pass
