"""Trainings as blocks of text, as JSON and as pictures: `tables`, `curves` (equality) and `dots` (what bugs cost)."""

from siglip_verify.report.train.curves import curves
from siglip_verify.report.train.dots import dots
from siglip_verify.report.train.tables import cost_line, dump, files, render_costs, render_equality, run_line

__all__ = ["cost_line", "curves", "dots", "dump", "files", "render_costs", "render_equality", "run_line"]
