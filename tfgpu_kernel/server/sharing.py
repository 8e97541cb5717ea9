"""The REST calls for shared notebooks: what one needs, the consent, and the jobs."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from .. import config
from ..config import KernelConfig
from ..engine import find
from ..errors import TfgpuError
from ..lock import consent, needs, read
from ..lock.read import Found
from ..overlay import OverlaidSpecs
from ..settings import judged
from .jobs import Jobs, Verb, cancel, options
from .records import failure

_POLICY: Final = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class SharingHandler(APIHandler):
    """What the calls share."""

    auth_resource = "tfgpu"

    def initialize(self, jobs: Jobs, root: str) -> None:
        """Take what the app owns; ``root`` is the server's root folder."""
        self.jobs = jobs
        self.root = Path(root).resolve()

    def file(self, path: object) -> Path:
        """Return the file of a notebook that the Contents API names so; anything else is a 404."""
        if isinstance(path, str) and "\0" not in path:
            file = Path(self.root, path.lstrip("/")).resolve()
            if file.is_relative_to(self.root) and file.suffix == ".ipynb" and file.is_file():
                return file
        raise web.HTTPError(404, "There is no such notebook.")

    def body(self) -> dict[str, Any]:
        """Return the request's JSON object."""
        body = self.get_json_body()
        if not isinstance(body, dict):
            raise web.HTTPError(400, "The call takes a JSON object.")
        return body

    def kernel(self, file: Path) -> tuple[str, dict[str, Any]]:
        """Return the kernel that a notebook names, and the settings in its kernel.json; in a thread."""
        spec: Any = read.parse(file.read_bytes(), file)
        for key in ("metadata", "kernelspec", "name"):
            spec = spec.get(key) if isinstance(spec, dict) else None
        name = spec if isinstance(spec, str) else "tfgpu"
        try:
            metadata: dict[str, Any] = OverlaidSpecs().get_kernel_spec(name).metadata
        except KeyError:
            raise web.HTTPError(400, f"There is no kernel {name!r} here.") from None
        return name, dict(metadata.get("kernel_provisioner", {}).get("config", {}))

    def configured(self) -> dict[str, Any]:
        """Return the server's settings of the provisioner."""
        return dict((self.config or {}).get("TfgpuProvisioner", {}))


class NeedsHandler(SharingHandler):
    """``GET /tfgpu/sharing/needs?path=``: what a locked notebook needs, before anything is fetched."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """Answer ``{"needs": Needs | null, "failure": Failure | null}``; null where the notebook has no lock."""
        file = self.file(self.get_argument("path"))
        try:
            found = await asyncio.to_thread(read.find, file)
            settings = await asyncio.to_thread(self._settings, file)
            known = None if found is None else await needs.assess(found, file, find.engine(), settings)
        except TfgpuError as error:
            self.finish({"needs": None, "failure": asdict(failure(error))})
            return
        self.finish({"needs": None if known is None else asdict(known), "failure": None})

    def _settings(self, file: Path) -> KernelConfig:
        """Return the settings of the notebook's kernel; the defaults where there is no such kernel here."""
        try:
            _, own = self.kernel(file)
        except web.HTTPError:
            own = {}
        return judged({**self.configured(), **own})


class ConsentHandler(SharingHandler):
    """``POST /tfgpu/sharing/consent``: the user agrees to what the banner says."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Take ``{"path", "subject"}``; answer 204, or 409 where the notebook has another lock by now."""
        body = self.body()
        found: Found | None = await asyncio.to_thread(read.find, self.file(body.get("path")))
        if found is None or found.lock.subject() != body.get("subject"):
            raise web.HTTPError(409, "The notebook's lock has changed since you read what it needs; read it again.")
        consent.give(found.lock)
        self.set_status(204)
        self.finish()


class JobsHandler(SharingHandler):
    """``POST /tfgpu/sharing/jobs``: lock or verify a notebook, add packages to it or remove them."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Take ``{"verb", "path", "packages"}``; answer the job."""
        body = self.body()
        packages = body.get("packages", [])
        verb: Verb | None = next((one for one in get_args(Verb) if one == body.get("verb")), None)
        if verb is None or not isinstance(packages, list):
            raise web.HTTPError(400, "There is no such job.")
        file = self.file(body.get("path"))
        try:
            packages = [config.package(str(one)) for one in packages]
        except TfgpuError as error:
            raise web.HTTPError(400, str(error)) from error
        if bool(packages) != (verb in ("add", "remove")):
            raise web.HTTPError(400, "Name the packages.")
        settings = await asyncio.to_thread(self._options, file, verb)
        job = self.jobs.start(verb, str(body["path"]), file, packages, settings)
        self.finish(job.told())

    def _options(self, file: Path, verb: Verb) -> list[str]:
        """Return the notebook's kernel, and the server's settings where kernel.json has none of its own."""
        name, own = self.kernel(file)
        settings = {"workspace": str(self.root), **self.configured()}
        unfit = ("image", "packages") if verb == "verify" else ("packages",)
        return [f"--kernel={name}", *options(settings, (*own, *unfit))]


class JobHandler(SharingHandler):
    """``GET`` or ``DELETE /tfgpu/sharing/jobs/<id>``: how far a job is, or end it."""

    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        """Answer the job."""
        job = self.jobs.find(name)
        if job is None:
            raise web.HTTPError(404, "There is no such job.")
        self.finish(job.told())

    @web.authenticated
    @authorized
    async def delete(self, name: str) -> None:
        """Answer 204 when it has ended."""
        job = self.jobs.find(name)
        if job is not None:
            await cancel(job)
        self.set_status(204)
        self.finish()


class ReportHandler(SharingHandler):
    """``GET /tfgpu/sharing/jobs/<id>/report``: the page of a verification."""

    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        """Answer HTML that runs no code and loads nothing."""
        job = self.jobs.find(name)
        if job is None or not job.report:
            raise web.HTTPError(404, "There is no such report.")
        self.set_header("Content-Security-Policy", _POLICY)
        self.finish(job.report, set_content_type="text/html; charset=utf-8")


_JOB: Final = r"(?P<name>[0-9a-f]+)"
ROUTES: Final = (
    (r"/tfgpu/sharing/needs", NeedsHandler),
    (r"/tfgpu/sharing/consent", ConsentHandler),
    (r"/tfgpu/sharing/jobs", JobsHandler),
    (rf"/tfgpu/sharing/jobs/{_JOB}", JobHandler),
    (rf"/tfgpu/sharing/jobs/{_JOB}/report", ReportHandler),
)
