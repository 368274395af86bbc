"""Everything that becomes a picture: sheets, plots, animations, figures and videos."""
