"""Captions for whole folders: a job is one file, and knows neither the page nor the command line."""
