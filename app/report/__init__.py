"""The Report page: a run as one file to hand out."""

from app.shared.pages import PageInfo

PAGE = PageInfo("Report", ":material/description:", 7)
