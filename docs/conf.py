"""The documentation site: `make docs` builds it, and warnings are errors."""

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

from lensllm import __version__

project = "lensllm"
author = "The lensllm developers"
copyright = "2026, the lensllm developers"  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = [
    "myst_nb",  # Markdown pages, and the notebooks, which are executed
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "conf.py"]
html_theme = "furo"
html_title = "lensllm"
html_copy_source = False
html_math_renderer = "mathml"  # which browsers show by themselves, also without a network

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars

autodoc_typehints = "none"  # types and shapes are in the signatures and under Args
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
default_role = "literal"  # docstrings write code in single backticks

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
linkcheck_timeout = 10


def _inline_math(writer, node):
    writer.body.append(tex2mathml(node.astext()))
    raise SkipNode


def _display_math(writer, node):
    writer.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def setup(app):
    """Register the renderer of equations."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_display_math, None))
