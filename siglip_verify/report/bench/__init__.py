"""The benchmarks: on a console, as JSON, and as charts of time and memory against W."""

from siglip_verify.report.bench.charts import charts
from siglip_verify.report.bench.tables import FILE_NAME, dump, headline, line, render, required, said

__all__ = ["FILE_NAME", "charts", "dump", "headline", "line", "render", "required", "said"]
