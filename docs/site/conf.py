"""Sphinx's settings. ``build.py`` says what is built from what."""

import rastrum

project = "Rastrum"
author = copyright = "Rastrum authors"
release = version = rastrum.__version__
html_title = f"Rastrum {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "docstrings"]
exclude_patterns = ["docs/site/**"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
python_maximum_signature_line_length = 100
suppress_warnings = ["ref.python"]          # State is of raster.py or of canvas.py: such a name in a signature links to one of them
python_use_unqualified_type_names = True

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["rastrum.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True, "footer_icons": []}
