"""The site: README.md, the pages of docs/, and a reference from the docstrings (`make docs`)."""

from sphinx.application import Sphinx

project = "azeros"
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "docs/*.rst"]
exclude_patterns = [
    ".*",
    "data",
    "models",
    "releases",
    "reports",
    "mlruns",
    "site",
]  # or it looks through all of them
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
highlight_language = "text"
default_role = "code"  # docstrings write `name`, as Markdown does

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "azeros"
html_copy_source = html_show_copyright = html_show_sphinx = False

CONTENTS = {
    "Learn": ["docs/stages", "docs/tiny-world"],
    "Research": ["docs/paper", "docs/extending", "docs/training", "docs/benchmarks"],
    "Operate": ["docs/running", "docs/serving"],
    "Look up": ["docs/model", "docs/reference", "docs/decisions", "CONTRIBUTING", "CHANGELOG"],
}


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", keep_colons, priority=1)  # before napoleon


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """The site's contents stand under README, which shows none on a Git host."""
    if page == root_doc:
        for caption, pages in CONTENTS.items():
            source[0] += "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}", *pages, "```\n"])


def keep_colons(app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]) -> None:
    """Napoleon takes what stands before a colon in an attribute's first line for its type: make that line a comment."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]
