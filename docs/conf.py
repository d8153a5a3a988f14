"""The pages as a site: ``make docs``. The root is the repository's, so that links between pages, recipes and code hold in both."""

import importlib.metadata

project = "figment"
release = importlib.metadata.version("figment-vision")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**", "src/figment/starter/README.md"]
root_doc = "docs/index"
html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}
html_title = f"figment {release}"
html_show_sourcelink = False
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
default_role = "code"

#: The sidebar; what is named nowhere comes at the end.
SIDEBAR = {
    "Begin": ["../README", "tour", "pilot", "evidence"],
    "Words and images": ["tasks", "data", "prompts", "samplers", "finetune", "filters"],
    "Learn and judge": ["learners", "few_shot", "pretrain", "measures", "judge"],
    "Python": ["python", "api"],
    "Run": ["extras", "tables", "engines", "format", "speed", "choices", "promises", "bad_input"],
    "Results": ["results/*", "../src/figment/starter/README"],
    "The project": ["design/*", "log", "../CONTRIBUTING", "../CHANGELOG"],
    "More": ["*"],
}


def with_sidebar(app, name, source):
    """The index has its sidebar here alone: elsewhere it is a page to be read, not a list for Sphinx."""
    if name == root_doc:
        for caption, pages in SIDEBAR.items():
            rows = [":hidden:", ":glob:", f":caption: {caption}", "", *pages]
            source[0] += "\n```{toctree}\n" + "\n".join(rows) + "\n```\n"


def setup(app):
    app.connect("source-read", with_sidebar)
