"""The Evaluate page: sets measured beside their controls."""

from app.shared.pages import PageInfo

PAGE = PageInfo("Evaluate", ":material/science:", 5)
