"""The studio: a page in the browser where models are watched while they draw."""
