"""A simulation: on a console, as JSON, as charts in one SVG file, and one step of it as a timeline; a calibration."""

from siglip_verify.report.simulation.calibration import dump_calibration, render_calibration
from siglip_verify.report.simulation.charts import charts
from siglip_verify.report.simulation.tables import dump, render
from siglip_verify.report.simulation.trace import trace

__all__ = ["charts", "dump", "dump_calibration", "render", "render_calibration", "trace"]
