"""The report as one HTML page that opens offline."""

from siglip_verify.report.html.page import render

__all__ = ["render"]
