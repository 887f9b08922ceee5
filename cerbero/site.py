"""Cerbero's own admin site.

Apart from cerbero/admin.py, whose registrations would otherwise land on a second site: Django makes the site
when the first admin module asks for it, and must not import a module that registers while it does.
"""

from django.contrib.admin import AdminSite


class CerberoAdminSite(AdminSite):
    site_header = site_title = "Cerbero"
    index_title = "Operations"
    enable_nav_sidebar = False
