"""Imports only the ccxt classes that are configured: 52 MB and 0.5 s a venue instead of 109 MB and 1 s CPU for all.

ccxt's packages (`ccxt`, `ccxt.async_support`, `ccxt.pro`) import every exchange in their `__init__`. Before anything
imports ccxt, this module registers the three packages under their own names and search paths with an attribute hook
instead of that `__init__`: a base class or an error is found in `ccxt.base`, an exchange is imported when it is
asked for. Any other name runs the real `__init__` files in the same module objects, so nothing exists twice and
everything that works with the full ccxt works here. A process that has imported ccxt already is left as it is.

Invariant: importing venues starts no thread and no event loop and opens no descriptor, so the supervisor can do it
before it forks.
"""

import importlib
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from ohlcvd.errors import ConfigError

_PACKAGES = ("ccxt", "ccxt.async_support", "ccxt.pro")
_SHARED = {
    "ccxt": ("ccxt.base.errors", "ccxt.base.exchange", "ccxt.base.precise", "ccxt.base.decimal_to_precision"),
    "ccxt.async_support": ("ccxt.async_support.base.exchange", "ccxt.base.errors", "ccxt.base.decimal_to_precision"),
    "ccxt.pro": ("ccxt.async_support.base.exchange", "ccxt.base.errors"),
}


class _LazyPackage(ModuleType):
    """A ccxt package whose exchanges are imported when they are asked for."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds the submodule ccxt.pro.kraken to the name `kraken`, but ccxt's own code expects
        # the class there, as the real __init__ leaves it; binance's relatives fail without this.
        if isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}":
            value = vars(value).get(name, value)
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # ccxt names nothing so; who asks only looks whether there is such a thing
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        for module_name in _SHARED[self.__name__]:
            module = importlib.import_module(module_name)
            if hasattr(module, name):
                setattr(self, name, getattr(module, name))
                return vars(self)[name]
        if find_spec(f"{self.__name__}.{name}") is not None:
            importlib.import_module(f"{self.__name__}.{name}")
            return vars(self)[name]
        load_everything()
        if name not in vars(self):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return vars(self)[name]


def prepare() -> None:
    """Register the lazy packages, unless ccxt is imported already."""
    if "ccxt" in sys.modules:
        return
    spec = find_spec("ccxt")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("ccxt is not installed", name="ccxt")
    root = Path(spec.origin).parent
    for name in _PACKAGES:
        folder = root.joinpath(*name.split(".")[1:])
        package_spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
        assert package_spec is not None
        _register(name, package_spec)


def _register(name: str, spec: ModuleSpec) -> None:
    module = _LazyPackage(name)
    module.__spec__ = spec
    module.__loader__ = spec.loader
    module.__package__ = name
    module.__file__ = spec.origin
    module.__path__ = spec.submodule_search_locations or []
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        vars(sys.modules[parent])[child] = module


def load_everything() -> None:
    """Run ccxt's own `__init__` files: every exchange is imported."""
    for name in ("ccxt.async_support", "ccxt", "ccxt.pro"):
        module = importlib.import_module(name)
        if isinstance(module, _LazyPackage) and "exchanges" not in vars(module):
            spec = module.__spec__
            assert spec is not None
            assert spec.loader is not None
            spec.loader.exec_module(module)


def ccxt_name(module: str, name: str) -> Any:
    """`name` of a ccxt module, for instance the errors of `ccxt.base.errors`."""
    prepare()
    return getattr(importlib.import_module(module), name)


def venue_class(name: str) -> Any:
    """The ccxt.pro class of an exchange, or its REST class where ccxt has no WebSocket for it.

    Raises ConfigError when ccxt has neither.
    """
    prepare()
    for package in ("ccxt.pro", "ccxt.async_support"):
        full_name = f"{package}.{name}"
        try:
            return getattr(importlib.import_module(full_name), name)
        except ModuleNotFoundError as error:
            if error.name != full_name:
                raise
        except (AttributeError, ImportError, TypeError):
            # A class built in a way that the lazy packages do not foresee: the full ccxt has it.
            load_everything()
            return getattr(sys.modules[package], name)
    raise ConfigError(f"ccxt has no exchange {name!r}")


def preload(names: Iterable[str]) -> None:
    """Import what a handler needs, and make an instance of each of these exchanges, before forking."""
    prepare()
    importlib.import_module("ohlcvd.exchange.handler")
    spare = importlib.import_module("ohlcvd.exchange.spare")
    for name in names:
        spare.prepare(name)
