"""A second device for machines that have none: tensors that say they are on `cuda` (or `mps`), picky about company.

    with pretended("cuda"):
        gan = probe.load("rooms", device="cuda")
        probe.walk(gan, 2, frames=1)  # real numbers, computed on the CPU

Tensors sent there become `Far`: what PyTorch would refuse on a GPU is refused here with PyTorch's own words, everything
else is computed by the CPU, so that the numbers have to be those of the CPU. Refused are: tensors of two devices in one
operation (but for single numbers, indices and copies), CPU generators that draw on the device, `.numpy()` of what is
there and, on `mps`, float64. House rule: draws without a generator of their own are refused as well, since they differ
from device to device. Use one thread: other threads do not know of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

_aten = torch.ops.aten
_CROSSING = {_aten.copy_.default, _aten._local_scalar_dense.default}
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
_WITH_NUMBERS = {"lift_fresh", "fill_", "masked_fill", "masked_fill_", *(op._schema.name[6:] for op in _INDEXED)}
_DRAWING = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "bernoulli"}
# these make constants where x is, which C++ takes to be the CPU
_WHOLE = {torch.quantile, Tensor.quantile, torch.nanquantile, Tensor.nanquantile}
_DRAWS = "draws on the device without a generator; draw on the CPU and move what was drawn"
_RESHAPED = {"set_", "resize_", "t_", "transpose_", "squeeze_", "unsqueeze_", "swapaxes_"}


class Far(Tensor):
    """A tensor on the pretended device; `near` holds its numbers. To autograd it is a tensor of the CPU's."""

    near: Tensor
    place: torch.device
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, near: Tensor, place: torch.device) -> Far:
        made: Far = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, near.shape, near.stride(), near.storage_offset(), dtype=near.dtype, layout=near.layout, device="cpu"
        )
        if place.type == "mps" and near.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as MPS doesn't support float64.")
        made.near, made.place = near, place
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return self.place.type == "cuda"

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def cpu(self, *_: Any, **__: Any) -> Tensor:  # type: ignore[override]
        return _Move.apply(self, None)  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        return self.near.tolist()

    def numpy(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        raise TypeError(
            f"can't convert {self.place} device type tensor to numpy. Use Tensor.cpu() to copy it to host memory first."
        )

    def __array__(self, *_: Any, **__: Any) -> NoReturn:  # type: ignore[override]
        self.numpy()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Far({self.near!r}, device='{self.place}')"

    def __deepcopy__(self, memo: dict[int, Any]) -> Far:
        if id(self) not in memo:
            made = Far(self.near.clone(), self.place)
            memo[id(self)] = nn.Parameter(made, self.requires_grad) if isinstance(self, nn.Parameter) else made
        return memo[id(self)]  # type: ignore[no-any-return]


class _Move(torch.autograd.Function):
    """A copy on the pretended device, or (place None) on the CPU; its gradient goes back to where the tensor was."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, place: torch.device | None) -> Tensor:
        ctx.back = x.place if isinstance(x, Far) else None
        near = (x.near if isinstance(x, Far) else x.detach()).clone()
        return near if place is None else Far(near, place)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Move.apply(grads[0], ctx.back), None  # type: ignore[return-value]


def _moved(x: Tensor, device: torch.device) -> Tensor:
    place = None if device.type == "cpu" else device
    here = x.place if isinstance(x, Far) else None
    return x if here == place else _Move.apply(x, place)  # type: ignore[no-any-return]


def _computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operation with tensors of the device among its arguments: refused, or done on the CPU."""
    _refuse(func, args, kwargs)
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Far)]
    back = {id(x.near): x for x in given}
    near_args, near_kwargs = tree_map(lambda x: x.near if isinstance(x, Far) else x, (args, kwargs))
    into_cpu = func is _aten.copy_.default and not isinstance(args[0], Far)
    found = func(*near_args, **near_kwargs)
    place = given[0].place

    def wrapped(x: Any) -> Any:
        if into_cpu or not isinstance(x, Tensor):
            return x
        return back[id(x)] if id(x) in back else Far(x, place)

    return tree_map(wrapped, found)


def _refuse(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    name = func.__name__.split(".")[0]
    if name in _RESHAPED:
        raise NotImplementedError(f"{name} on the pretended device")
    if torch.Tag.nondeterministic_seeded in func.tags:
        drawing = kwargs.get("generator")
        if drawing is not None:
            raise RuntimeError("Expected a device type for generator that is the tensor's, but found 'cpu'")
        raise AssertionError(f"{name} {_DRAWS}")
    if func in _CROSSING:
        return
    if func in _INDEXED:
        if not isinstance(args[0], Far):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        args = (args[0], *args[2:])  # indices may be the CPU's
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    numbers = torch.Tag.pointwise in func.tags or name in _WITH_NUMBERS
    wrong = [x for x in tensors if not isinstance(x, Far) and (x.ndim or not numbers)]
    if wrong and any(isinstance(x, Far) for x in tensors):
        shapes = ", ".join(f"{tuple(x.shape)} on {x.device}" for x in tensors)
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, in {func}: {shapes}"
        )


class _Elsewhere(TorchFunctionMode):
    """Sends what is made on, or moved to, the pretended device there."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.place = torch.device(kind, 0)

    def _asked(self, x: Any) -> torch.device | None:
        """The device that an argument names, or None where it names none."""
        if isinstance(x, str) and x.split(":")[0] in ("cpu", "meta", self.place.type):
            x = torch.device(x)
        if not isinstance(x, torch.device):
            return None
        return self.place if x.type == self.place.type else x

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.to:
            return self._to(args[0], args[1:], kwargs)
        if func is Tensor.cpu:
            return args[0].cpu() if isinstance(args[0], Far) else func(*args, **kwargs)
        if func in _WHOLE and isinstance(args[0], Far):
            found = func(*tree_map(lambda x: x.near if isinstance(x, Far) else x, args), **kwargs)
            return Far(found, self.place)
        device = self._asked(kwargs.get("device"))
        if device == self.place:  # a factory: torch.zeros(…, device=…), torch.empty_like(x, device=…), x.new_zeros(…)
            drawing = kwargs.get("generator")
            if drawing is not None:
                raise RuntimeError(f"Expected a '{device.type}' device type for generator but found 'cpu'")
            if func.__name__ in _DRAWING:
                raise AssertionError(f"{func.__name__} {_DRAWS}")
            made = func(*(x.near if isinstance(x, Far) else x for x in args), **{**kwargs, "device": "cpu"})
            return Far(made.detach(), device).requires_grad_(made.requires_grad)
        if device is not None and args and isinstance(args[0], Far):  # empty_like(far, device="cpu") and the like
            return func(args[0].near, *args[1:], **kwargs)
        return func(*args, **kwargs)

    def _to(self, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        device, dtype = self._asked(kwargs.pop("device", None)), kwargs.pop("dtype", None)
        left = []
        for item in args:
            if isinstance(item, Tensor):
                device, dtype = item.device, item.dtype
            elif self._asked(item) is not None:
                device = self._asked(item)
            elif isinstance(item, torch.dtype):
                dtype = item
            elif item is not None:
                left.append(item)
        if device is not None and device.type == "meta":
            return Tensor.to(x, device, dtype or x.dtype, **kwargs)
        if dtype is not None:
            x = Tensor.to(x, dtype)
        if kwargs.get("memory_format") is not None:
            x = Tensor.to(x, memory_format=kwargs["memory_format"])
        return x if device is None else _moved(x, device)


_to = nn.Module.to


def _module_to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """`nn.Module.to`, which asks C++ where a tensor is that a module is to be like."""
    if args and isinstance(args[0], Far):
        args = (args[0].device, args[0].dtype, *args[1:])
    return _to(module, *args, **kwargs)


@contextmanager
def pretended(kind: str = "cuda") -> Iterator[None]:
    """A machine with one device of this kind (`cuda` or `mps`) beside the CPU."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a parameter's numbers are in `near`
    try:
        with pytest.MonkeyPatch.context() as patch, _Elsewhere(kind):
            patch.setattr(nn.Module, "to", _module_to)
            patch.setattr(torch.cuda, "is_available", lambda: kind == "cuda")
            patch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
            patch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
            patch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
