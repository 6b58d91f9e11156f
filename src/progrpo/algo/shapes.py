"""Shape checks at the door of the public functions: broadcasting [N] against [N, 1] gives [N, N] and trains."""

from torch import Tensor

from progrpo.errors import ShapeError


def require_shape(**tensors: tuple[Tensor, tuple[int | None, ...]]) -> None:
    """Compare each named tensor with its expected shape; None admits any size.

    Raises:
        ShapeError: names the argument, the expected and the actual shape.
    """
    for name, (tensor, expected) in tensors.items():
        actual = tuple(tensor.shape)
        same = len(actual) == len(expected) and all(e is None or a == e for a, e in zip(actual, expected, strict=True))
        if not same:
            shown = ", ".join("any" if size is None else str(size) for size in expected)
            raise ShapeError(f"{name}: expected shape ({shown}), got {actual}")
