"""Checkpointed functions, exchange of memory, and averaged models."""

import numpy as np
import pytest

import flambeau as torch
from flambeau.optim import swa_utils
from flambeau.utils.checkpoint import checkpoint, checkpoint_sequential


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))


@pytest.mark.parametrize("how", ["whole", "sequential"])
def test_checkpoint_gives_the_same_gradients(how):
    x = torch.arange(6.0).reshape(2, 3)
    plain, saving = network(), network()
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = plain(a)
    got = checkpoint(saving, b, use_reentrant=False) if how == "whole" else checkpoint_sequential(saving, 2, b, use_reentrant=False)
    assert torch.allclose(got, expected)
    expected.sum().backward()
    got.sum().backward()
    assert torch.allclose(a.grad, b.grad)
    for p, q in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad)


def test_checkpoint_without_tensors_that_need_gradients():
    model = network()
    checkpoint(model, torch.ones(1, 3)).sum().backward()
    assert model[0].weight.grad is not None, "the function's own parameters are trained"
    with torch.no_grad():
        assert not checkpoint(model, torch.ones(1, 3)).requires_grad


def test_checkpoint_draws_the_same_random_numbers():
    drawn = []

    def noisy(x):
        noise = torch.rand(3)
        drawn.append(noise.tolist())
        return x * noise

    x = torch.ones(3, requires_grad=True)
    checkpoint(noisy, x).sum().backward()
    assert len(drawn) == 2 and drawn[0] == drawn[1] and x.grad.tolist() == drawn[0]


def test_checkpoint_of_several_results():
    x = torch.tensor([2.0], requires_grad=True)
    a, b = checkpoint(lambda v, factor: (v * factor, v * v), x, 3)
    (a + b).sum().backward()
    assert x.grad.tolist() == [7.0]


def test_dlpack_shares_memory():
    array = np.zeros(3, np.float32)
    tensor = torch.utils.dlpack.from_dlpack(array)
    tensor += 1
    assert array.tolist() == [1.0, 1.0, 1.0]
    back = np.from_dlpack(tensor)
    array[0] = 5
    assert back.tolist() == tensor.tolist() == [5.0, 1.0, 1.0]


def test_averaged_model():
    model = torch.nn.Linear(1, 1, bias=False)
    mean = swa_utils.AveragedModel(model)
    moving = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    for value in (1.0, 2.0, 6.0):
        with torch.no_grad():
            model.weight.fill_(value)
        mean.update_parameters(model)
        moving.update_parameters(model)
    assert mean.module.weight.item() == pytest.approx(3.0) and mean.n_averaged.item() == 3
    assert moving(torch.ones(1, 1)).item() == pytest.approx(3.75)
    assert model.weight.item() == 6.0


def test_update_bn():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(1))
    model.eval()
    swa_utils.update_bn([torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]])], model)
    assert model[0].running_mean.item() == pytest.approx(3.0) and not model.training and model[0].momentum == 0.1


def test_swalr_anneals_to_a_constant():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = swa_utils.SWALR(optimizer, swa_lr=0.5, anneal_epochs=2, anneal_strategy="linear")
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1.0, 0.75, 0.5, 0.5])
