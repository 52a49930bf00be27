"""The page that asks people to sign in, where the app is served to others."""

from __future__ import annotations

import os
from typing import Any

import streamlit as st

from app import serving
from app.shared import components
from corrsteer_core.base.errors import CorrSteerError

VARIABLE = "CORRSTEER_LOGIN"
"""Environment variable that the server sets where people have to sign in."""


def let_in() -> bool:
    """Whether this visitor may see the pages; if not, what to do stands on the page."""
    if not os.environ.get(VARIABLE):
        return True
    if not st.user.get("is_logged_in"):
        st.title("CorrSteer Explorer")
        st.write("Sign in to use the app.")
        st.button("Sign in", type="primary", on_click=st.login)
        return False
    if may_come_in(dict(st.user)):
        return True
    st.title("CorrSteer Explorer")
    st.write(
        f"{components.for_markdown(st.user.get('email') or 'This account')} may not use this app: ask whoever runs it to "
        f"add your address, or sign in with another account."
    )
    st.button("Sign out", on_click=st.logout)
    return False


def may_come_in(user: dict[str, Any]) -> bool:
    """Whether a signed-in account is one of those named, by an address that the provider has not called unconfirmed."""
    try:
        named = serving.people(serving.secrets())
    except CorrSteerError:  # damaged while the app runs: then nobody is named
        return False
    address = str(user.get("email") or "").strip().lower()
    return address in named and user.get("email_verified", True) is not False
