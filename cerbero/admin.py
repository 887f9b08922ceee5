"""Cerbero's admin site, and the people, bots and decisions that it shows."""

from django.contrib.admin import AdminSite


class CerberoAdminSite(AdminSite):
    site_header = site_title = "Cerbero"
    index_title = "Operations"
    enable_nav_sidebar = False
