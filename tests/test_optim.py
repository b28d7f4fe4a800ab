"""Optimizers and schedules: PyTorch's numbers (recorded), state, messages, and what one step costs the stream.

``python tests/test_optim.py --record`` writes ``recorded/optim.json`` from PyTorch; the tests need no PyTorch.
"""

import copy
import importlib
import json
import math
import pickle
import sys
import warnings
from pathlib import Path

import pytest

RECORDED = Path(__file__).parent / "recorded" / "optim.json"

CASES = {
    "SGD": [
        {"lr": 0.1}, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"lr": 0.01, "maximize": True},
    ],
    "Adam": [{"lr": 0.1}, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}, {"betas": (0.5, 0.9), "eps": 1e-3, "maximize": True}],
    "AdamW": [{"lr": 0.1}, {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True}],
    "RMSprop": [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.5, "centered": True, "weight_decay": 0.1}, {"maximize": True}],
    "Adagrad": [{"lr": 0.1}, {"lr": 0.1, "lr_decay": 0.5, "weight_decay": 0.1, "initial_accumulator_value": 0.1}],
    "Adadelta": [{}, {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1}],
    "Adamax": [{"lr": 0.1}, {"weight_decay": 0.1, "maximize": True}],
    "NAdam": [{"lr": 0.1}, {"weight_decay": 0.1, "momentum_decay": 6e-3}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "RAdam": [{"lr": 0.1}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "ASGD": [{"lr": 0.1}, {"lr": 0.1, "t0": 2, "lambd": 0.1, "weight_decay": 0.1}],
    "Rprop": [{}, {"lr": 0.1, "etas": (0.4, 1.5), "step_sizes": (1e-3, 0.2)}],
    "Adafactor": [{"lr": 0.1}, {"lr": 0.1, "d": 1.5, "weight_decay": 0.1, "beta2_decay": -1.0}],
    "LBFGS": [{"lr": 0.1}, {"line_search_fn": "strong_wolfe"}, {"lr": 0.5, "history_size": 2, "max_iter": 4}],
}  # fmt: skip

SCHEDULES = {
    "StepLR": [{"step_size": 3}, {"step_size": 2, "gamma": 0.5}],
    "MultiStepLR": [{"milestones": [2, 5, 5, 9]}],
    "ConstantLR": [{}, {"factor": 0.5, "total_iters": 3}],
    "LinearLR": [{}, {"start_factor": 0.2, "end_factor": 0.7, "total_iters": 6}],
    "ExponentialLR": [{"gamma": 0.9}],
    "PolynomialLR": [{}, {"total_iters": 7, "power": 2.0}],
    "CosineAnnealingLR": [{"T_max": 5}, {"T_max": 7, "eta_min": 0.01}],
    "CosineAnnealingWarmRestarts": [{"T_0": 3}, {"T_0": 3, "T_mult": 2, "eta_min": 0.001}],
    "CyclicLR": [
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4}, {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, "mode": "triangular2"},
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "step_size_down": 5, "mode": "exp_range", "gamma": 0.9},
    ],
    "OneCycleLR": [
        {"max_lr": 0.5, "total_steps": 20}, {"max_lr": 0.5, "epochs": 4, "steps_per_epoch": 5, "anneal_strategy": "linear"},
        {"max_lr": 0.5, "total_steps": 20, "three_phase": True, "base_momentum": 0.8},
    ],
}  # fmt: skip
STEPS, EPOCHS = 7, 18


def problem(torch):
    """Parameters and a closure for a sum of squares with coefficients of every size; gradients need no random numbers."""
    params = [torch.nn.Parameter(torch.tensor([[math.sin(3 * i + j) for j in range(3)] for i in range(2)])),
              torch.nn.Parameter(torch.tensor([math.cos(i) for i in range(4)]))]
    targets = [torch.full((2, 3), 0.3), torch.full((4,), -0.2)]
    weights = [torch.tensor([[0.5, 1.0, 2.0], [0.1, 3.0, 0.7]]), torch.tensor([1.0, 0.25, 1.5, 0.5])]

    def loss():
        return sum((w * (p - t) ** 2).sum() for p, t, w in zip(params, targets, weights))

    return params, loss


def trajectory(torch, name, options):
    params, loss = problem(torch)
    optimizer = getattr(torch.optim, name)(params, **options)

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    path = []
    for step in range(STEPS):
        optimizer.step(closure)
        path.append([x for p in params for x in p.detach().flatten().tolist()])
        if step == 3:       # half of the way with a second optimizer that took over the state
            saved = optimizer.state_dict()
            optimizer = getattr(torch.optim, name)(params, **options)
            optimizer.load_state_dict(saved)
    return path


def rates(torch, name, options):
    p = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([p], lr=0.2, momentum=0.9)
    schedule = getattr(torch.optim.lr_scheduler, name)(optimizer, **options)
    result = []
    for _ in range(EPOCHS):
        optimizer.step()
        result.append([schedule.get_last_lr()[0], optimizer.param_groups[0]["momentum"]])
        schedule.step()
    return result


def record(torch):
    return {
        "paths": {name: [trajectory(torch, name, options) for options in cases] for name, cases in CASES.items()},
        "rates": {name: [rates(torch, name, options) for options in cases] for name, cases in SCHEDULES.items()},
    }


if __name__ == "__main__" and sys.argv[1:] == ["--record"]:
    RECORDED.write_text(json.dumps(record(importlib.import_module("torch"))).replace("]], [[", "]],\n[[") + "\n")
    raise SystemExit


import flambeau as torch  # noqa: E402
from flambeau.optim import lr_scheduler  # noqa: E402


@pytest.fixture(scope="module")
def recorded():
    return json.loads(RECORDED.read_text())


@pytest.mark.parametrize(("name", "case"), [(name, i) for name, cases in CASES.items() for i in range(len(cases))])
def test_follows_pytorch(recorded, name, case):
    path = trajectory(torch, name, CASES[name][case])
    tolerance = 2e-5 if name == "LBFGS" else 2e-6      # its curvature estimates magnify rounding
    for step, (mine, theirs) in enumerate(zip(path, recorded["paths"][name][case], strict=True)):
        assert mine == pytest.approx(theirs, rel=2e-5, abs=tolerance), f"step {step + 1}"


@pytest.mark.parametrize(("name", "case"), [(name, i) for name, cases in SCHEDULES.items() for i in range(len(cases))])
def test_schedules_follow_pytorch(recorded, name, case):
    mine = rates(torch, name, SCHEDULES[name][case])
    for (lr, momentum), expected in zip(mine, recorded["rates"][name][case], strict=True):
        assert [lr, momentum] == pytest.approx(expected, rel=1e-12, abs=1e-15)


def parameter(*values):
    return torch.nn.Parameter(torch.tensor(list(values) or [1.0, 2.0]))


def one_step(optimizer, *params):
    optimizer.zero_grad()
    sum((p * p).sum() for p in params).backward()
    optimizer.step()


# ---------------------------------------------------------------- groups, state, checkpoints


def test_groups_have_their_own_hyperparameters():
    p, q = parameter(1.0), parameter(1.0)
    optimizer = torch.optim.SGD([{"params": [p]}, {"params": q, "lr": 0.25}], lr=0.125)
    one_step(optimizer, p, q)
    assert (p.item(), q.item()) == (0.75, 0.5)
    optimizer.param_groups[0]["lr"] = 0.5
    one_step(optimizer, p, q)
    assert (p.item(), q.item()) == (0.0, 0.25)


def test_a_group_added_later_is_trained():
    p, q = parameter(1.0), parameter(1.0)
    optimizer = torch.optim.Adam([p], lr=0.1)
    one_step(optimizer, p)
    optimizer.add_param_group({"params": [q]})
    one_step(optimizer, p, q)
    assert q.item() == pytest.approx(0.9, abs=1e-6)
    assert optimizer.param_groups[1]["lr"] == 0.1
    assert [optimizer.state[x]["step"].item() for x in (p, q)] == [2.0, 1.0]


def test_parameters_without_gradient_are_left_alone():
    p, q, frozen = parameter(1.0), parameter(1.0), parameter(1.0).requires_grad_(False)
    optimizer = torch.optim.Adam([p, q, frozen], lr=0.1)
    for used in ((p,), (p, q), (q,), (p, q)):
        one_step(optimizer, *used)
    assert [optimizer.state[x]["step"].item() for x in (p, q)] == [3.0, 3.0]
    assert frozen.item() == 1.0 and frozen not in optimizer.state


def test_state_looks_as_in_pytorch():
    p = parameter()
    optimizer = torch.optim.Adam([p], amsgrad=True)
    assert optimizer.state == {} and optimizer.state_dict()["state"] == {}
    one_step(optimizer, p)
    state = optimizer.state[p]
    assert list(state) == ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
    assert isinstance(state["step"], torch.Tensor) and state["step"].dtype == torch.float32 and state["step"].shape == ()
    one_step(optimizer, p)
    assert state["step"].item() == 2.0, "a dictionary that was looked at before stays current"
    assert dict(state)["step"].item() == 2.0 and {**state}["step"].item() == 2.0 and copy.deepcopy(state)["step"].item() == 2.0
    state["step"].zero_()
    state["exp_avg"].zero_()
    one_step(optimizer, p)
    assert state["step"].item() == 1.0, "what is written into the state counts"

    sgd = torch.optim.SGD([p], lr=0.1)
    one_step(sgd, p)
    assert sgd.state_dict()["state"] == {}
    assert list(torch.optim.Adagrad([p]).state[p]) == ["step", "sum"]


def test_state_can_be_cleared():
    p, q = parameter(1.0), parameter(1.0)
    first, second = torch.optim.Adam([p], lr=0.1), torch.optim.Adam([q], lr=0.1)
    one_step(first, p)
    first.state.clear()
    one_step(first, p)
    assert first.state[p]["step"].item() == 1.0
    one_step(second, q)
    second.state = type(second.state)(dict)
    one_step(second, q)
    assert second.state[q]["step"].item() == 1.0


@pytest.mark.parametrize("how", ["state_dict", "pickle", "deepcopy"])
def test_training_goes_on_after_a_copy(how):
    p, q = parameter(1.0, -2.0), parameter(1.0, -2.0)
    first, second = torch.optim.Adam([p], lr=0.1), torch.optim.Adam([q], lr=0.1)
    for _ in range(3):
        one_step(first, p)
        one_step(second, q)
    if how == "state_dict":
        again = torch.optim.Adam([q], lr=0.7)
        again.load_state_dict(copy.deepcopy(second.state_dict()))
    else:
        again = copy.deepcopy(second) if how == "deepcopy" else pickle.loads(pickle.dumps(second))
        (q,) = again.param_groups[0]["params"]
    for _ in range(3):
        one_step(first, p)
        one_step(again, q)
    assert p.tolist() == q.tolist()


def test_state_dict_numbers_parameters():
    p, q = parameter(), parameter(1.0)
    optimizer = torch.optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.5}], lr=0.1, momentum=0.9)
    one_step(optimizer, p, q)
    saved = optimizer.state_dict()
    assert [g["params"] for g in saved["param_groups"]] == [[0], [1]] and saved["param_groups"][1]["lr"] == 0.5
    assert saved["state"][0]["momentum_buffer"].tolist() == [2.0, 4.0]


def test_loaded_state_takes_the_parameters_dtype():
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    source = parameter(1.0, 1.0)
    optimizer = torch.optim.Adam([source])
    one_step(optimizer, source)
    loaded = torch.optim.Adam([p])
    loaded.load_state_dict(optimizer.state_dict())
    assert loaded.state[p]["exp_avg"].dtype == torch.float64 and loaded.state[p]["step"].dtype == torch.float32


def test_zero_grad():
    p = parameter()
    optimizer = torch.optim.SGD([p], lr=0.1)
    (p * p).sum().backward()
    grad = p.grad
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is grad and grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert p.grad is None


def test_closure_and_its_loss():
    p = parameter(3.0)
    optimizer = torch.optim.SGD([p], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert p.item() == 0.0


def test_learning_rate_as_a_tensor():
    p = parameter(1.0)
    lr = torch.tensor(0.25)
    optimizer = torch.optim.SGD([p], lr=lr)
    one_step(optimizer, p)
    assert p.item() == 0.5
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.5)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is lr and lr.item() == 0.125


def test_views_see_the_update():
    p = parameter(1.0, 2.0)
    view = p.detach()[1:]
    one_step(torch.optim.SGD([p], lr=0.25), p)
    assert view.tolist() == [1.0]


def test_hooks():
    p = parameter(1.0)
    optimizer = torch.optim.SGD([p], lr=0.25)
    seen = []
    handles = [
        optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append("before")),
        optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("after", p.item()))),
        optimizer.register_state_dict_post_hook(lambda o, state: {**state, "extra": 1}),
        optimizer.register_load_state_dict_pre_hook(lambda o, state: seen.append("loading")),
    ]
    one_step(optimizer, p)
    assert seen == ["before", ("after", 0.5)]
    assert optimizer.state_dict()["extra"] == 1
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen[-1] == "loading"
    for handle in handles:
        handle.remove()
    one_step(optimizer, p)
    assert len(seen) == 3
    optimizer.register_step_pre_hook(lambda o, args, kwargs: 5)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()


def test_own_optimizer():
    class Halve(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"factor": 0.5})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.mul_(group["factor"])
                    state = self.state[p]
                    state["step"] = state.get("step", 0) + 1

    p = parameter(8.0)
    optimizer = Halve([p])
    optimizer.step()
    optimizer.step()
    assert p.item() == 2.0 and optimizer.state_dict()["state"] == {0: {"step": 2}}
    assert repr(optimizer) == "Halve (\nParameter Group 0\n    factor: 0.5\n)"


def test_repr():
    p = parameter()
    assert repr(torch.optim.SGD([p], lr=0.1)) == (
        "SGD (\nParameter Group 0\n    dampening: 0\n    differentiable: False\n    foreach: None\n    fused: None\n    lr: 0.1\n"
        "    maximize: False\n    momentum: 0\n    nesterov: False\n    weight_decay: 0\n)"
    )


# ---------------------------------------------------------------- misuse


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: torch.optim.SGD(p), TypeError, r"should be an iterable of Tensors or dicts[\s\S]*\[tensor\]"),
        (lambda p: torch.optim.SGD([]), ValueError, r"optimizer got an empty parameter list[\s\S]*ModuleList[\s\S]*Parameter"),
        (lambda p: torch.optim.SGD([1]), TypeError, "can only optimize Tensors, but one of the params is int"),
        (lambda p: torch.optim.SGD([{"params": {p}}]), TypeError, "ordered collections"),
        (lambda p: torch.optim.SGD([p * 2]), ValueError, r"can't optimize a non-leaf Tensor[\s\S]*detach"),
        (lambda p: torch.optim.SGD([{"params": [p]}, {"params": [p]}]), ValueError, "more than one parameter group"),
        (lambda p: torch.optim.SGD([p]).add_param_group([p]), TypeError, "param_group must be a dict"),
        (lambda p: torch.optim.SGD([("a", p), parameter()]), ValueError, "Some param names are missing"),
        (lambda p: torch.optim.SGD([p], lr=-1), ValueError, "Invalid learning rate: -1"),
        (lambda p: torch.optim.SGD([p], nesterov=True), ValueError, "Nesterov momentum requires a momentum and zero dampening"),
        (lambda p: torch.optim.SGD([p], lr=torch.ones(2)), ValueError, "Tensor lr must be 1-element"),
        (lambda p: torch.optim.Adam([p], betas=(1.0, 0.0)), ValueError, "Invalid beta parameter at index 0: 1.0"),
        (lambda p: torch.optim.Adam([p], eps=-1), ValueError, "Invalid epsilon value: -1"),
        (lambda p: torch.optim.Rprop([p], etas=(1.0, 0.5)), ValueError, "Invalid eta values: 1.0, 0.5"),
        (lambda p: torch.optim.LBFGS([{"params": [p]}, {"params": [parameter()]}]), ValueError, "parameter groups"),
        (lambda p: torch.optim.SGD([p]).load_state_dict(torch.optim.SGD([p, parameter()]).state_dict()), ValueError, "match the size"),
        (lambda p: lr_scheduler.StepLR(5, 1), TypeError, "int is not an Optimizer"),
        (lambda p: lr_scheduler.StepLR(torch.optim.SGD([p]), 1, last_epoch=3), KeyError, "initial_lr"),
        (lambda p: lr_scheduler.SequentialLR(torch.optim.SGD([p]), [], []), ValueError, "at least one scheduler"),
        (lambda p: lr_scheduler.OneCycleLR(torch.optim.SGD([p]), 1.0), ValueError, "You must define either total_steps"),
    ],
)
def test_misuse(make, error, message):
    with pytest.raises(error, match=message):
        make(parameter())


def test_duplicate_parameters_warn():
    p = parameter()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        torch.optim.SGD([p, p])


def test_schedule_before_optimizer_warns():
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    schedule = lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match=r"before `optimizer.step\(\)`"):
        schedule.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = torch.optim.SGD([parameter()], lr=0.1)
        schedule = lr_scheduler.StepLR(other, 1)
        other.step()
        schedule.step()


# ---------------------------------------------------------------- schedules


def test_schedule_continues_from_its_state_dict():
    def make():
        optimizer = torch.optim.SGD([parameter()], lr=1.0)
        return optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 10)

    optimizer, schedule = make()
    for _ in range(4):
        optimizer.step()
        schedule.step()
    saved = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
    optimizer2, schedule2 = make()
    optimizer2.load_state_dict(saved[0])
    schedule2.load_state_dict(saved[1])
    for o, s in ((optimizer, schedule), (optimizer2, schedule2)):
        o.step()
        s.step()
    assert schedule.get_last_lr() == schedule2.get_last_lr()


def test_plateau():
    optimizer = torch.optim.SGD([parameter()], lr=1.0)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    got = []
    for loss in (1.0, 0.9, 0.9, torch.tensor(0.95), 0.9, 0.9, 0.1):
        schedule.step(loss)
        got.append(schedule.get_last_lr()[0])
    assert got == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_combined_schedules():
    optimizer = torch.optim.SGD([parameter()], lr=1.0)
    schedule = lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.ConstantLR(optimizer, 0.5, 20), lr_scheduler.ExponentialLR(optimizer, 0.5)], [2]
    )
    got = []
    for _ in range(5):
        got.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert got == [0.5, 0.5, 1.0, 0.5, 0.25]
    optimizer = torch.optim.SGD([parameter()], lr=1.0)
    chained = lr_scheduler.ChainedScheduler([lr_scheduler.ConstantLR(optimizer, 0.5, 2), lr_scheduler.ExponentialLR(optimizer, 0.5)])
    got = []
    for _ in range(4):
        got.append(chained.get_last_lr()[0])
        optimizer.step()
        chained.step()
    assert got == [0.5, 0.25, 0.25, 0.125]


def test_forgotten_zero_grad_warns_once():
    p = parameter()
    optimizer = torch.optim.SGD([p], lr=0.1)

    def train(times):
        for _ in range(times):
            (p * p).sum().backward()
            optimizer.step()

    with pytest.warns(UserWarning, match=r"already used[\s\S]*zero_grad") as caught:
        train(3)
    assert len(caught) == 1


def test_correct_ways_to_accumulate_do_not_warn():
    p, other = parameter(), parameter()
    optimizer, second = torch.optim.SGD([p], lr=0.1), torch.optim.SGD([other], lr=0.1)
    clear = [lambda: optimizer.zero_grad(set_to_none=False), optimizer.zero_grad, lambda: p.grad.zero_(), lambda: setattr(p, "grad", None)]
    for zero in clear:
        for _ in range(2):
            (p * p).sum().backward()
        optimizer.step()
        zero()
    for _ in range(3):      # as in adversarial training: another loss reaches the parameters after their step, then they are cleared
        optimizer.zero_grad()
        (p * p).sum().backward()
        optimizer.step()
        second.zero_grad()
        (p * other).sum().backward()
        second.step()


def test_gradients_are_not_kept_alive():
    import gc
    import weakref

    p = parameter()
    optimizer = torch.optim.Adam([p])
    for _ in range(2):
        one_step(optimizer, p)
    gradient = weakref.ref(p.grad)
    optimizer.zero_grad()
    gc.collect()
    assert gradient() is None
