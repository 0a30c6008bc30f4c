"""A method whose answers are kept: as `functools.cache`, but with the object.

`functools.cache` on a method keeps them, and every object that was asked, until the program ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

S = TypeVar("S")
P = ParamSpec("P")
T = TypeVar("T")


class cached_method(Generic[S, P, T]):
    """`@cached_method`, for arguments that can be hashed. The answers go when the object goes."""

    def __init__(self, method: Callable[Concatenate[S, P], T]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> cached_method[S, P, T]: ...

    @overload
    def __get__(self, instance: S, owner: type) -> Callable[P, T]: ...

    def __get__(self, instance: S | None, owner: type) -> Any:
        if instance is None:
            return self
        asked = cache(self._method.__get__(instance))
        instance.__dict__[self._name] = asked  # found before this descriptor from now on
        return asked
