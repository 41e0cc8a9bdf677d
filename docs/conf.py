"""Sphinx settings. `make docs` builds strictly: every warning is an error, and so is a link that leads nowhere."""

project = "entropo_plugin"
author = "The entropo_plugin authors"
copyright = "the entropo_plugin authors; licence Apache-2.0"

extensions = ["myst_parser"]
exclude_patterns = ["_build", "changes"]
source_suffix = {".md": "markdown"}
# headings down to this level can be linked to, as on GitHub
myst_heading_anchors = 3
highlight_language = "text"

html_theme = "furo"
html_title = "entropo_plugin"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
