"""Rules for going back through activations: against formulas written out here, against captum, and what is refused."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest
import torch
from captum.attr import NeuronDeconvolution, NeuronGradient, NeuronGuidedBackprop
from torch import Tensor, nn
from torch.nn import functional as F

from probe.base.errors import ProbeError
from probe.questions.guided_backprop.rules import RULES, Rectifier, check_path, on_path, replaced

PLACE = (3, 1, 2)


def network(*activations: nn.Module) -> nn.Sequential:
    """Three convolutions of 5 maps with an activation behind each, inputs (N, 2, 8, 8), seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        maps = (2, 5, 5, 5)
        parts = [(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b)) for a, b in itertools.pairwise(maps)]
    layers = [m for pair, act in zip(parts, activations, strict=True) for m in (*pair, act)]
    return nn.Sequential(*layers).double().eval()


def by_hand(model: nn.Sequential, x: Tensor, slope: float, rule: str) -> Tensor:
    """Back from one response of the last activation's input to the image, layer by layer, every sum written out."""
    inputs = []
    for module in model:
        inputs.append(x)
        x = F.leaky_relu(x, slope) if isinstance(module, nn.ReLU | nn.LeakyReLU | nn.PReLU) else module(x)
    g = torch.zeros_like(inputs[-1])
    g[:, PLACE[0], PLACE[1], PLACE[2]] = 1
    for module, z in zip(list(model)[-2::-1], inputs[-2::-1], strict=True):
        if isinstance(module, nn.Conv2d):
            g = F.conv_transpose2d(g, module.weight, padding=1)
        elif isinstance(module, nn.BatchNorm2d):
            g = g * (module.weight / (module.running_var + module.eps).sqrt())[:, None, None]
        else:
            positive, on = (g > 0) * g, (z > 0) * 1.0
            g = {
                "guided": on * positive,
                "leaky": positive * (on + (1 - on) * slope),
                "deconvnet": positive,
                "gradient": g * (on + (1 - on) * slope),
            }[rule]
    return g.detach()


def through(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    picture: Tensor = NeuronGradient(model, layer).attribute(x.requires_grad_(), PLACE, attribute_to_neuron_input=True)
    return picture.detach()


IMAGES = torch.randn(4, 2, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("make", "slope"),
    [
        (lambda: nn.ReLU(), 0.0),
        (lambda: nn.LeakyReLU(0.2, inplace=True), 0.2),
        (lambda: nn.PReLU(5, init=0.3), 0.3),
        (lambda: nn.PReLU(init=0.1), 0.1),
    ],
)
def test_every_rule_agrees_with_the_formula(make: Any, slope: float, rule: str) -> None:
    model = network(make(), make(), make())
    twin, count = replaced(model, rule)  # type: ignore[arg-type]
    assert count == 3
    found = through(twin, twin[8], IMAGES.clone())
    expected = by_hand(model, IMAGES, slope, rule)
    assert expected.abs().max() > 0.01
    assert (found - expected).abs().max() < 1e-6
    assert torch.allclose(twin(IMAGES), model(IMAGES))  # the way forward is as before


def test_captum_alone_gives_the_plain_gradient_of_a_leaky_network() -> None:
    model = network(*(nn.LeakyReLU(0.2) for _ in range(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = NeuronGuidedBackprop(model, model[8]).attribute(
            IMAGES.clone().requires_grad_(), PLACE, attribute_to_neuron_input=True
        )
    plain = through(model, model[8], IMAGES.clone())
    assert torch.equal(theirs.detach(), plain)  # the trap
    twin = replaced(model, "guided")[0]
    ours = through(twin, twin[8], IMAGES.clone())
    assert (ours - plain).norm() / plain.norm() > 0.1


@pytest.mark.parametrize(("rule", "method"), [("guided", NeuronGuidedBackprop), ("deconvnet", NeuronDeconvolution)])
def test_on_relu_networks_captum_agrees(rule: str, method: Any) -> None:
    model = network(nn.ReLU(), nn.ReLU(), nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = method(model, model[8]).attribute(
            IMAGES.clone().requires_grad_(), PLACE, attribute_to_neuron_input=True
        )
    twin = replaced(model, rule)[0]  # type: ignore[arg-type]
    ours = through(twin, twin[8], IMAGES.clone())
    assert ours.abs().max() > 0.01
    assert (ours - theirs).abs().max() < 1e-6


def test_the_model_is_left_as_it_was() -> None:
    model = network(nn.ReLU(), nn.LeakyReLU(), nn.PReLU())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    twin, _ = replaced(model, "guided")
    assert [type(m) for m in model][2::3] == [nn.ReLU, nn.LeakyReLU, nn.PReLU]
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(isinstance(m, Rectifier) for m in list(twin)[2::3])


class Functional(nn.Module):
    """A network whose second activation is a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.first, self.second, self.act = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3), nn.ReLU()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.act(self.first(x))))


FUNCTIONS = {
    "Relu": F.relu,
    "LeakyRelu": lambda x: F.leaky_relu(x, 0.2),
    "Maximum": lambda x: torch.maximum(x, 0.2 * x),
    "Where": lambda x: torch.where(x > 0, x, 0.2 * x),
    "Clamp": lambda x: x.clamp(min=0),
    "Gelu": F.gelu,
    "Sigmoid": lambda x: x * x.sigmoid(),
    "Elu": F.elu,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functional_activations_are_refused(name: str) -> None:
    twin, count = replaced(Functional(FUNCTIONS[name]), "guided")
    assert count == 1
    with pytest.raises(ProbeError, match=rf"^activation {name}: called as a function in Functional"):
        check_path(twin, twin(torch.randn(2, 2, 8, 8, requires_grad=True)))


def test_modules_without_a_rule_are_refused_by_name() -> None:
    twin, _ = replaced(Functional(nn.ELU()), "guided")
    with pytest.raises(ProbeError, match=r"^activation function \(ELU\): the rules are defined for ReLU, LeakyReLU"):
        check_path(twin, twin(torch.randn(2, 2, 8, 8, requires_grad=True)))


def test_linear_operations_are_no_activations() -> None:
    twin, _ = replaced(Functional(lambda x: F.avg_pool2d(x + 0.5 * x.flip(-1), 1).float()), "guided")
    output = twin(torch.randn(2, 2, 8, 8, requires_grad=True))
    assert on_path(output) == (1, [])
    assert check_path(twin, output) == 1


def test_unknown_rule() -> None:
    with pytest.raises(ProbeError, match=r"^rule magic: expected guided, leaky, deconvnet, gradient$"):
        replaced(nn.ReLU(), "magic")  # type: ignore[arg-type]
