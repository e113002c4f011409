"""The result page: everything that a network can show, in one file that plays anywhere.

network, settings -> sections (plans of films) -> media (files, cached) -> page (one HTML file)
"""

from digan.showcase.make import check_sections, showcase
from digan.showcase.settings import Settings

__all__ = ["Settings", "check_sections", "showcase"]
