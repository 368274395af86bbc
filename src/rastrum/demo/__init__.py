"""``rastrum demo``: three small models trained on the embedded digits, and a page that shows what they do."""
