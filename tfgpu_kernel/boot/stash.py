"""Modules that are imported already, but don't show until somebody imports them.

A stash hides what came with a preloaded module: out of ``sys.modules``, with the warnings' filters and environment
variables that it set and the lines that it printed. The first import of any of it brings all of that back at once,
and is the moment at which a cold kernel would have imported it.
"""

import importlib
import os
import sys
import sysconfig
import warnings
from importlib.machinery import ModuleSpec
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, cast

from . import logs, rivals
from .capture import Capture


class Unit:
    """One preloaded module with all that came with it, or a package of these that is imported without it, too."""

    def __init__(self, name: str, asked: bool = True) -> None:
        """Begin with nothing; ``asked`` says that it was to be preloaded."""
        self.name = name
        self.asked = asked
        self.modules: Dict[str, Any] = {}
        self.needs: List[Unit] = []  # units that must be there before this one
        self.printed = ["", ""]  # by Python, on standard output and standard error
        self.native = [b"", b""]  # by others, there
        self.environ: Dict[str, str] = {}
        self.filters: List[Any] = []
        self.lacking: Set[str] = set()  # packages that it looked for, and that were nowhere
        self.logs: logs.State = {}
        self.shown = False

    def has(self, package: str) -> bool:
        """Whether a package is part of it, or came along."""
        return package in self.modules or any(unit.name == package for unit in self.needs)


class Stash:
    """Imports modules ahead, hides them, and is the finder that brings them back."""

    def __init__(self, told: Callable[[Unit], None], outdone: Callable[[Dict[str, str]], None]) -> None:
        """Take what is called with a unit when it comes back, and with the packages that cells find elsewhere.

        Of these, what was imported ahead has the image's; they are given with the file that cells find.
        """
        self.units: List[Unit] = []
        self._parts: List[Unit] = []
        self._of: Dict[str, Unit] = {}
        self._packages: Dict[str, Any] = {}
        self._files: Dict[str, Optional[str]] = {}  # where an import found each package
        self._told = told
        self._outdone = outdone
        self._loading: Optional[Unit] = None
        self._asked: Set[str] = set()

    def preload(self, names: Sequence[str]) -> None:
        """Import each module that is there, and hide it again."""
        sys.meta_path.insert(0, cast(Any, self))
        for name in names:
            if name not in sys.modules and name not in self._of:
                self._load(Unit(name))
        if not self.units:
            self.leave()

    def leave(self) -> None:
        """Be no finder any more."""
        if self in sys.meta_path:
            sys.meta_path.remove(cast(Any, self))

    def _load(self, unit: Unit) -> None:
        self._loading, self._asked = unit, set()
        modules, environ, filters = set(sys.modules), dict(os.environ), list(warnings.filters)
        loggers = logs.state()
        found = True
        with Capture() as capture:
            try:
                importlib.import_module(unit.name)
            except ImportError as error:
                if (getattr(error, "name", None) or "").partition(".")[0] != unit.name.partition(".")[0]:
                    raise
                found = False
        self._loading = None
        unit.printed, unit.native = capture.printed, capture.native
        for other in self.units + self._parts:  # what this one brought back is hidden again
            if other.shown:
                self._hide(other, other.modules)
        if not found:
            return
        unit.lacking = {name for name in self._asked if name not in sys.modules and rivals.place(name) is None}
        known = list(sys.modules.items())
        new = {name: module for name, module in known if name not in modules and _foreign(name, module)}
        unit.environ = {name: text for name, text in os.environ.items() if name not in environ}
        for name in unit.environ:
            del os.environ[name]
        unit.filters = [entry for entry in warnings.filters if entry not in filters]
        _filters(filters)
        unit.logs = logs.take_back(loggers)
        self.units.append(unit)
        self._hide(unit, self._without_parts(unit, new))

    def _without_parts(self, unit: Unit, new: Dict[str, Any]) -> Dict[str, Any]:
        """Give each package that doesn't need the preloaded one a unit of its own; return all other modules.

        So NumPy comes back without TensorFlow.
        """
        packages: Dict[str, Dict[str, Any]] = {}
        for name, module in new.items():
            packages.setdefault(_package(name), {})[name] = module
        needs = {package: _needed(modules.values()) for package, modules in packages.items()}
        # TensorFlow 2.1 is also tensorflow_core.
        bound, found = set(), {package for package in packages if package.startswith(_package(unit.name))}
        while found:
            bound |= found
            found = {package for package in packages if package not in bound and needs[package] & bound}
        parts = {package: Unit(package, asked=False) for package in packages if package not in bound}
        self._parts.extend(parts.values())
        for package, part in parts.items():
            part.needs = [other for other in self._parts if other.name in needs[package] and other is not part]
            self._hide(part, packages[package])
        unit.needs.extend(parts.values())
        return {name: module for name, module in new.items() if _package(name) in bound}

    def _hide(self, unit: Unit, modules: Dict[str, Any]) -> None:
        unit.modules, unit.shown = dict(modules), False
        for name, module in unit.modules.items():
            self._of[name] = unit
            sys.modules.pop(name, None)
            if "." not in name and name not in self._packages:
                self._packages[name], self._files[name] = module, rivals.place(name)

    def module(self, name: str) -> Any:
        """Return a module that is loaded, hidden or not; None where it isn't."""
        unit = self._of.get(name)
        return unit.modules[name] if unit is not None else sys.modules.get(name)

    def show(self, unit: Unit) -> None:
        """Bring a unit back, after those that it needs."""
        outdone: Dict[str, str] = {}
        self._show(unit, outdone)
        if outdone:
            self._outdone(outdone)

    def _show(self, unit: Unit, outdone: Dict[str, str]) -> None:
        if unit.shown:
            return
        unit.shown = True
        for other in unit.needs:
            self._show(other, outdone)
        files = {package: self._rival(package) for package in {_package(name) for name in unit.modules}}
        outdone.update({package: file for package, file in files.items() if file})
        absent = [package for package, file in files.items() if file and self._yields(package, file)]
        for name, module in unit.modules.items():
            self._of.pop(name, None)
            if _package(name) not in absent:
                sys.modules.setdefault(name, module)
        if self._loading is not None:
            if unit not in self._loading.needs:
                self._loading.needs.append(unit)
            return
        if not unit.asked:
            return
        for name, text in unit.environ.items():
            os.environ.setdefault(name, text)
        _filters(unit.filters + list(warnings.filters))
        logs.give(unit.logs)
        if all(other.shown for other in self.units):
            self.leave()
        self._told(unit)
        sys.stdout.write(unit.printed[0])
        sys.stderr.write(unit.printed[1])
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            _print_natively(number, stream, unit.native[number - 1])

    @staticmethod
    def appeared(unit: Unit) -> List[str]:
        """Return the packages that a unit looked for in vain, and would find by now."""
        return sorted(name for name in unit.lacking if rivals.place(name))

    def _rival(self, package: str) -> str:
        """Return the file of the package that a cell has, or would get, instead of a hidden one; empty for none."""
        if self._loading is not None or package not in self._packages:
            return ""
        here = sys.modules.get(package)
        if here is not None and here is not self._packages[package]:
            return getattr(here, "__file__", None) or package
        return rivals.other(package, self._files[package]) if package in self._of else ""

    def _yields(self, package: str, rival: str) -> bool:
        """Whether cells get the other package.

        Not where it would have to be there twice: Keras registers its classes with TensorFlow and optree, which refuse
        a second one, and so do many packages with native code.
        """
        if package in sys.modules:
            return sys.modules[package] is not self._packages[package]
        unit = self._of.get(package)
        if unit is None or unit.asked:
            return False
        files = [
            _contents(module).get("__file__") for name, module in unit.modules.items() if _package(name) == package
        ]
        return not (rivals.native(files) and rivals.native_there(rival))

    # -- what the import system asks ------------------------------------------------------------------

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """Answer for what is hidden; asking alone (importlib.util.find_spec) brings nothing back."""
        if self._loading is not None and name == _package(name):
            self._asked.add(name)
        unit = self._of.get(name)
        if unit is None:
            return None
        rival = self._rival(_package(name))
        if rival and self._yields(_package(name), rival):
            return None
        original = getattr(unit.modules[name], "__spec__", None)
        spec = ModuleSpec(name, cast(Any, _Loader(self, unit, original)), origin=getattr(original, "origin", None))
        spec.submodule_search_locations = getattr(original, "submodule_search_locations", None)
        spec.has_location = bool(getattr(original, "has_location", False))
        spec.cached = getattr(original, "cached", None)
        return spec

    def invalidate_caches(self) -> None:
        """Have nothing to forget."""


class _Loader:
    """Gives the module that is there, in place of the loader that it came from."""

    def __init__(self, stash: Stash, unit: Unit, original: Any) -> None:
        self._stash = stash
        self._unit = unit
        self._original = original

    def create_module(self, spec: ModuleSpec) -> Any:
        return self._unit.modules[spec.name]

    def exec_module(self, module: Any) -> None:
        module.__spec__ = self._original
        self._stash.show(self._unit)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._original.loader if self._original else None, name)


def _print_natively(number: int, stream: Any, text: bytes) -> None:
    """Show what native code printed where it would be shown: newer ipykernels have it in the cell, older ones not.

    Not by way of the descriptor in a newer one, which is read by a thread of its own, maybe when the cell is over.
    """
    if getattr(stream, "_should_watch", False):
        stream.write(text.decode(errors="replace"))
        return
    while text:
        text = text[os.write(number, text) :]


def _package(name: str) -> str:
    return name.partition(".")[0]


def _contents(module: Any) -> Dict[str, Any]:
    """Return what a module has loaded; to ask some modules for an attribute would load more."""
    if issubclass(type(module), ModuleType):
        return cast(Dict[str, Any], ModuleType.__getattribute__(module, "__dict__"))
    return {}


def _needed(modules: Iterable[Any]) -> Set[str]:
    """Return the packages that modules have something of; what loads only when it is touched stays untouched."""
    found = set()
    for module in modules:
        for value in list(_contents(module).values()):
            kind = type(value)
            if issubclass(kind, ModuleType):
                name = _contents(value).get("__name__")
            elif issubclass(kind, (type, FunctionType, BuiltinFunctionType)):
                name = getattr(value, "__module__", None)
            else:
                continue
            if isinstance(name, str):
                found.add(_package(name))
    return found


_STANDARD = tuple({os.path.join(sysconfig.get_paths()[key], "") for key in ("stdlib", "platstdlib")})


def _foreign(name: str, module: Any) -> bool:
    """Whether a module is not Python's own: those stay, since half the standard library hangs together."""
    if module is None or module is sys.modules.get("__main__") or name.partition(".")[0] == __package__:
        return False
    file = _contents(module).get("__file__") or ""
    if not file:
        names = getattr(sys, "stdlib_module_names", sys.builtin_module_names)
        return name.partition(".")[0] not in names
    return "-packages" in file or not file.startswith(_STANDARD)


def _filters(filters: Sequence[Any]) -> None:
    if list(warnings.filters) != filters:
        cast(List[Any], warnings.filters)[:] = filters
        changed = getattr(warnings, "_filters_mutated", None) or getattr(warnings, "_filters_mutated_lock_held", None)
        if changed is not None:
            changed()
