"""Outputs without what differs from run to run and says nothing: timings, dates, addresses, progress bars."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

Sanitizer = tuple[re.Pattern[str], str]
"""A pattern and what replaces it, as nbval's sanitize files have them."""

_UNITS: Final = r"(?:ns|us|µs|μs|ms|s|secs?|seconds?|min|mins|minutes?|hours?)"
_RULES: Final = (
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?", "<date>"),
    (r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? (?:\w{3} +\d+|\d+ \w{3}) [\d: ]{8,14}\d*", "<date>"),
    (r"\d+:\d\d(?::\d\d)?<\d+:\d\d(?::\d\d)?|\d+:\d\d<\?", "<time>"),  # tqdm
    (r"\b\d{1,2}:\d\d:\d\d(?:\.\d+)?\b", "<time>"),
    (r"\b\d+(?:\.\d+)?(?:it|ex|batch|example|step|file|url|B|kB|MB|GB| examples| it| steps?)/s(?:ec)?\b", "<rate>"),
    (r"\b\d+(?:\.\d+)?s/it\b", "<rate>"),
    (rf"(?:(?<=[\s(\[~=:/·,-])|^)\d+(?:\.\d+)?(?:e-?\d+)? ?{_UNITS}(?:/(?:step|epoch|it|batch|sample))?\b", "<time>"),
    (r"\bETA: *(?:<time>|[\d:]+)", "<time>"),
    (r"\b(?:CPU times|Wall time|total): .*", "<time>"),
    (r"\b0x[0-9a-fA-F]{6,}\b", "<address>"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"/tmp/(?:ipykernel_\d+|tmp\w{6,})[\w./-]*", "<file>"),
    (r"[━╸─█▏▎▍▌▋▊▉░]{2,}|\[[=>.]{10,}\]|\|[█▏▎▍▌▋▊▉ #]{3,}\|", "<bar>"),
    (r'(<progress\b[^>]*?)\bvalue="[^"]*"', r'\1value="<bar>"'),
)
_COMPILED: Final = tuple((re.compile(rule, re.MULTILINE), put) for rule, put in _RULES)
_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LOG: Final = re.compile(
    r"(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWEF] |[IWEF]\d{4} \d\d:\d\d:\d\d|[IWEF]0000 00:00:\d|"
    r"WARNING: All log messages before absl).*"
)
"""Lines of TensorFlow's own log, which tells of the machine."""
_SVG_DATE: Final = re.compile(r"<dc:date>.*?</dc:date>")
_SVG_NAME: Final = re.compile(r"\b([mpDC]\w?|image)[0-9a-f]{10}\b")
_WIDGET: Final = "application/vnd.jupyter.widget-view+json"


def sanitizers(text: str) -> tuple[Sanitizer, ...]:
    """Read a sanitize file as nbval has them: pairs of ``regex:`` and ``replace:`` lines.

    :raises ValueError: where a pattern is none.
    """
    pairs = re.findall(r"^regex: (.*)$\n^replace: (.*)$", text, re.MULTILINE)
    try:
        return tuple((re.compile(pattern), put) for pattern, put in pairs)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error


def text(raw: str, further: Iterable[Sanitizer] = ()) -> str:
    """Return a printed text as it stands on the screen at the end, timings and the like taken out."""
    lines = (_final(line) for line in _ANSI.sub("", raw).split("\n"))
    plain = "\n".join(line.rstrip() for line in lines)
    for pattern, put in (*further, *_COMPILED):
        plain = pattern.sub(put, plain)
    return plain


def outputs(raw: Sequence[Mapping[str, Any]], further: Sequence[Sanitizer] = ()) -> list[tuple[str, str]]:
    """Return a cell's outputs as (kind, content) in order; streams of one name are one.

    The kind is ``stdout``, ``stderr``, ``error`` or a MIME type. Metadata and execution counts are left out.
    """
    streams: dict[str, str] = {}
    found: list[tuple[str, str]] = []
    for output in raw:
        if output["output_type"] == "stream":
            name = str(output["name"])
            if name not in streams:
                found.append((name, ""))
            streams[name] = streams.get(name, "") + joined(output["text"])
        elif output["output_type"] == "error":
            found.append(("error", text(f"{output['ename']}: {output['evalue']}", further)))
        else:
            for mime, content in sorted(output.get("data", {}).items()):
                found.append((mime, _data(mime, content, further)))
    told = [(kind, _stream(kind, streams[kind], further) if kind in streams else content) for kind, content in found]
    return [(kind, content) for kind, content in told if content or kind not in streams]


def digest(raw: Sequence[Mapping[str, Any]]) -> str:
    """Return the hash of a cell's outputs."""
    return hashlib.sha256(json.dumps(outputs(raw)).encode()).hexdigest()


def source_digest(source: Any) -> str:
    """Return the hash of a cell's source."""
    return hashlib.sha256(joined(source).encode()).hexdigest()


def joined(value: Any) -> str:
    """Return a text that a notebook may have as a list of lines."""
    return "".join(str(line) for line in value) if isinstance(value, list) else str(value)


def is_text(kind: str) -> bool:
    """Whether an output of this kind is compared as a text."""
    return kind in {"stdout", "stderr", "error", "image/svg+xml"} or kind.startswith(("text/", "application/"))


def _stream(name: str, raw: str, further: Sequence[Sanitizer]) -> str:
    if name == "stderr":
        raw = "\n".join(line for line in raw.split("\n") if not _LOG.match(line))
    return text(raw, further).strip("\n")


def _data(mime: str, content: Any, further: Sequence[Sanitizer]) -> str:
    if mime == _WIDGET:
        return "<widget>"
    if not isinstance(content, str | list):
        return text(json.dumps(content, sort_keys=True), further)
    whole = joined(content)
    if mime == "image/svg+xml":
        return _SVG_NAME.sub(r"\1<name>", _SVG_DATE.sub("", whole))
    return text(whole, further) if is_text(mime) else whole.replace("\n", "")


def _final(line: str) -> str:
    """Return what a terminal shows of a line in the end: carriage returns and backspaces carried out."""
    if "\b" not in line and "\r" not in line:
        return line
    shown: list[str] = []
    place = 0
    for sign in line:
        if sign == "\r":
            place = 0
        elif sign == "\b":
            place = max(0, place - 1)
        else:
            shown[place : place + 1] = sign
            place += 1
    return "".join(shown)
