"""A notebook's environment, kept in the notebook: recorded, read with suspicion, compared."""
