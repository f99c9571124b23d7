"""Write the order of the exchanges, measured and simulated, into docs/order.json and docs/simulate.md: `make order`.

Reads what `siglip-verify calibrate --json` wrote from standard input. Of the machine only what lasts is kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("simulate.md")
DATA = Path(__file__).with_name("order.json")
BEGIN, END = "<!-- written by docs/make_order.py -->", "<!-- end of the order -->"
NOT_MEASURED = "No measurement is committed: `make order`, on a machine that does nothing else, makes this table."
_LASTING = ("python", "torch", "processors", "back end")


def kept(calibration: dict[str, Any]) -> dict[str, Any]:
    """Return what is committed of a calibration: the step, every median and verdict, and the machine in words."""
    step = {name: calibration[name] for name in ("batch", "dim", "dtype", "turns")}
    environment = {name: value for name, value in calibration["environment"].items() if name in _LASTING}
    return {**step, "environment": environment, "order": calibration["order"]}


def section(data: dict[str, Any] | None) -> str:
    """Return what the page says: a row for each step, then each pair and whether its order is that measured."""
    if data is None:
        return NOT_MEASURED
    order = data["order"]
    step = f"b = {data['batch']}, d = {data['dim']}, {data['dtype']}, {data['turns']} turns"
    machine = ", ".join(f"{name} {value}" for name, value in data["environment"].items())
    lines = [
        f"One step, {step}; {machine}.",
        "",
        "| W | exchange | median, ms, measured | noise, ms, measured | step, ms, modelled | error |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for each in order["steps"]:
        figures = " | ".join(f"{each[name] * 1e3:.3g}" for name in ("median_s", "noise_s", "simulated_s"))
        lines.append(f"| {each['world_size']} | {each['form']} | {figures} | {each['error']:+.0%} |")
    wrong = [pair for pair in order["pairs"] if not pair["is_so_simulated"]]
    right = len(order["pairs"]) - len(wrong)
    lines += ["", f"{right} of {len(order['pairs'])} pairs whose medians differ beyond noise are ordered as measured."]
    lines += [
        f"- W = {pair['world_size']}: {pair['faster']} was faster than {pair['slower']} by {pair['times'] - 1:.0%}; "
        "the model has it the other way round."
        for pair in wrong
    ]
    return "\n".join(lines)


def write(page: str, said: str) -> str:
    """Put a section in its place on the page."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n{said}\n{END}{after}"


if __name__ == "__main__":
    data = kept(json.load(sys.stdin))
    DATA.write_text(json.dumps(data, indent=2) + "\n")
    PAGE.write_text(write(PAGE.read_text(), section(data)))
    print(f"wrote {DATA} and {PAGE}")
