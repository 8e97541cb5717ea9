"""What the project's README says of speed: one paragraph, from the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .contenders import COLD, GATEWAY, LOCAL, WARM
from .figures import median
from .results import Result
from .targets import FIRST, INFO

_BEGIN: Final = "<!-- speed: written by python -m bench report -->\n"
_END: Final = "<!-- end of speed -->\n"


def words(found: Mapping[str, Result]) -> str:
    """Return the paragraph; empty without the measurement of starts.

    :raises KeyError: where a contender was not measured.
    """
    starts = found.get("starts")
    if starts is None:
        return ""
    first = {who: median(starts.series[FIRST][who]) for who in (LOCAL, GATEWAY, COLD, WARM)}
    info = {who: median(starts.series[INFO][who]) for who in (COLD, WARM)}
    busy = ", busy with other work" if starts.machine["load_before"] > starts.machine["processors"] else ""
    return (
        f"A kernel that was kept ready gave its first TensorFlow result {first[WARM]:.2f} s after its start "
        f"({info[WARM]:.2f} s until it answered), one that was started cold after {first[COLD]:.1f} s "
        f"({info[COLD]:.2f} s); a local ipykernel took {first[LOCAL]:.1f} s, gateway_provisioners' DockerProvisioner "
        f"{first[GATEWAY]:.1f} s. Medians of {len(starts.series[FIRST][WARM])} on {starts.machine['processors']} "
        f"processors without a GPU{busy}: `{starts.command}`; [all benchmarks](docs/benchmarks/README.md).\n"
    )


def put(text: str, paragraph: str) -> str:
    """Return the README with the paragraph in its place.

    :raises ValueError: where the README has no place for it.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("README.md has no place for what is said of speed")
    return before + begin + paragraph + end + after
