"""Launch recipes of model families, what each model needs, and what fits this machine."""
