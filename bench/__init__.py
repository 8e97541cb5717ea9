"""What the documentation's figures come from: ``python -m bench --help``."""
