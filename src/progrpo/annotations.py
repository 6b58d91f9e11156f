"""What the types of settings say of the values they take."""

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin


def is_list(annotation: Any) -> bool:
    """Whether a type is a tuple of any length, or that or None, and takes no single value."""
    kinds = _without_none(annotation)
    if get_origin(annotation) in (Union, UnionType) and len(kinds) == 1:
        return is_list(kinds[0])
    return get_origin(annotation) is tuple and get_args(annotation)[-1:] == (Ellipsis,)


def is_number(annotation: Any) -> bool:
    """Whether a type is int or float, either of them, or one or None; and no bool."""
    if get_origin(annotation) is Annotated:
        return is_number(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return all(is_number(kind) for kind in _without_none(annotation))
    return annotation in (int, float)


def _without_none(annotation: Any) -> list[Any]:
    return [kind for kind in get_args(annotation) if kind is not type(None)]
