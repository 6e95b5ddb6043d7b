"""Rules for going back through an activation: what "guided" means where the activation is leaky.

With input x, slope a of the negative side (0 for a ReLU) and incoming gradient g, an activation passes on

    guided      1[x > 0] · 1[g > 0] · g                     Springenberg et al. 2015, section 3.4
    leaky       1[g > 0] · g · (1 where x > 0, else a)
    deconvnet   1[g > 0] · g                                Zeiler and Fergus 2014
    gradient    g · (1 where x > 0, else a)

The forward pass stays as it is. Libraries that hook `nn.ReLU` alone leave a LeakyReLU's plain gradient in place.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base.errors import ProbeError

Rule = Literal["guided", "leaky", "deconvnet", "gradient"]
RULES: tuple[str, ...] = get_args(Rule)
_OURS = "_RectifyBackward"
_OTHER = (
    "Relu", "LeakyRelu", "Prelu", "Rrelu", "Elu", "Celu", "Selu", "Gelu", "Silu", "Mish", "Softplus", "Sigmoid",
    "LogSigmoid", "Tanh", "Hardtanh", "Hardswish", "Hardsigmoid", "Hardshrink", "Softshrink", "Threshold", "Clamp",
    "ClampMin", "ClampMax", "Maximum", "Minimum", "Where", "Abs", "Glu",
)  # fmt: skip
"""What autograd calls the activations that no rule replaces, and the operations they are written with by hand."""


class _Rectify(torch.autograd.Function):
    """max(x, 0) + slope · min(x, 0), with one of the rules on the way back; slope (1,) or (C,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor, rule: str) -> Tensor:
        ctx.save_for_backward(x, slope)
        ctx.rule = rule
        return F.prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,), (x, slope) = grads, ctx.saved_tensors
        if ctx.rule == "guided":
            return torch.ops.aten.threshold_backward(grad, x, 0).clamp_(min=0), None, None  # one pass for 1[x > 0] · g
        if ctx.rule != "gradient":
            grad = grad.clamp(min=0)
        if ctx.rule != "deconvnet":
            factor = slope.reshape(-1, *[1] * (x.ndim - 2)) if slope.numel() > 1 else slope
            grad = torch.where(x > 0, grad, grad * factor)
        return grad, None, None


class Rectifier(nn.Module):
    """A ReLU, LeakyReLU or PReLU with a rule of its own for the way back; never in place."""

    slope: Tensor

    def __init__(self, activation: nn.Module, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        if isinstance(activation, nn.PReLU):
            slope = activation.weight.detach().clone()
        else:
            slope = torch.tensor([float(getattr(activation, "negative_slope", 0.0))])
        self.register_buffer("slope", slope)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Rectify.apply(x, self.slope.to(x), self.rule)
        return out


def replaced(model: nn.Module, rule: Rule) -> tuple[nn.Module, int]:
    """A copy of a model with its ReLU, LeakyReLU and PReLU modules replaced, and how many; its weights need no gradient.

    Raises ProbeError for a rule that does not exist.
    """
    if rule not in RULES:
        raise ProbeError(f"rule {rule}: expected {', '.join(RULES)}")
    twin = copy.deepcopy(model).requires_grad_(False)
    count = 0
    for parent in list(twin.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU | nn.LeakyReLU | nn.PReLU):
                setattr(parent, name, Rectifier(child, rule))
                count += 1
    return twin, count


def _graph(output: Tensor) -> Iterator[str]:
    """Names of the operations that an output's gradient goes back through, each once."""
    stack, seen = [output.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node.name().rpartition("::")[2]
        stack += [parent for parent, _ in node.next_functions]


def on_path(output: Tensor) -> tuple[int, list[str]]:
    """Activations between an output and its inputs: how many go back by a rule, and autograd's names of the others."""
    names = list(_graph(output))
    kinds = {name: name.rstrip("0123456789").removesuffix("Backward").removesuffix("Kernel") for name in names}
    return names.count(_OURS), [kinds[name] for name in names if kinds[name] in _OTHER]


def check_path(model: nn.Module, output: Tensor) -> int:
    """How many replaced activations lie before an output of a model that `replaced` made.

    Raises ProbeError, with their names where they are modules, for activations there that no rule is defined for, and
    for functional ones, which cannot be replaced.
    """
    count, others = on_path(output)
    if not others:
        return count
    kinds = ", ".join(dict.fromkeys(others))
    alike = {kind.casefold() for kind in others} | ({"relu6"} if "Hardtanh" in others else set())
    modules = [
        f"{name} ({type(m).__name__})" for name, m in model.named_modules() if type(m).__name__.casefold() in alike
    ]
    if modules:
        raise ProbeError(
            f"activation {', '.join(modules)}: the rules are defined for ReLU, LeakyReLU and PReLU modules; found "
            f"{kinds} before this layer"
        )
    raise ProbeError(
        f"activation {kinds}: called as a function in {type(model).__name__}, so no rule reaches it and the picture "
        "would be the plain gradient; make it an nn.ReLU, nn.LeakyReLU or nn.PReLU module"
    )
