"""The model zoo: cards, weight files, records of runs, tables of scores."""
