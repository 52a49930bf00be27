"""The Overview page: runs, jobs, starting a run."""

from app.shared.pages import PageInfo

PAGE = PageInfo("Overview", ":material/home:", 1)
