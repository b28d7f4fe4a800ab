"""Short programs about gradients, views and in-place writes that run under PyTorch and under Flambeau alike.

Each function takes the library and returns what a user could see: numbers, names, flags, refusals.  ``python tests/autograd_cases.py``
run under PyTorch writes its answers to ``tests/recorded/autograd.json``; ``test_autograd.py`` compares Flambeau's to them.
"""

import copy
import json
import warnings
from pathlib import Path

RECORDED = Path(__file__).resolve().parent / "recorded" / "autograd.json"
CASES = {}


def case(fn):
    assert fn.__name__ not in CASES, fn.__name__
    CASES[fn.__name__] = fn
    return fn


def refused(fn):
    """What an error looks like: its type and the start of its message."""
    try:
        fn()
    except Exception as error:
        return ["raises", type(error).__name__, " ".join(str(error).split())[:48]]
    return ["went through"]


def plain(value):
    """Tensors and containers as lists, names and numbers."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist") and hasattr(value, "shape"):
        return [str(value.dtype), list(value.shape), value.detach().tolist()]
    if isinstance(value, type):
        return value.__name__
    return str(value)


def name(t):
    return None if t.grad_fn is None else t.grad_fn.name().rpartition("::")[2]


def leaf(torch, *shape, start=1.0):
    n = 1
    for s in shape:
        n *= s
    return (torch.arange(n, dtype=torch.float64).reshape(shape) * 0.25 + start).requires_grad_()


def carry_out(fn, torch):
    """The answer of one case; a refusal of the whole case counts as an answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return plain(fn(torch))
        except Exception as error:
            return ["case raises", type(error).__name__, " ".join(str(error).split())[:48]]


# ---------------------------------------------------------------- views written in place

@case
def write_into_a_slice(torch):
    x = leaf(torch, 4)
    y = x * 2
    y[1:3] *= 10
    (y * y).sum().backward()
    return name(y), y, x.grad


@case
def assign_into_a_slice(torch):
    x, v = leaf(torch, 3, 3), leaf(torch, 3, start=5.0)
    y = x * 2
    y[1] = v
    (y * y).sum().backward()
    return name(y), x.grad, v.grad


@case
def view_taken_before_a_write_to_its_base(torch):
    x = leaf(torch, 4)
    y = x * 2
    v = y[1:3]
    y.mul_(3)
    out = v.sum()
    out.backward()
    return v, name(v), x.grad


@case
def base_read_after_a_write_to_its_view(torch):
    x = leaf(torch, 2, 3)
    y = x * 2
    v = y.t()
    v[0] += 1
    v[1].mul_(4)
    (y ** 2).sum().backward()
    return y, v, name(y), x.grad


@case
def sibling_views_see_each_other(torch):
    x = leaf(torch, 6)
    y = x + 1
    a, b = y[:4], y[2:]
    a.mul_(2)
    b.mul_(3)
    c = (a * torch.arange(4.0, dtype=torch.float64)).sum() + b.sum()
    c.backward()
    return a, b, y, x.grad


@case
def view_of_a_view_written(torch):
    x = leaf(torch, 4, 4)
    y = x * 3
    v = y[1:][:, 1:].t()[0]
    v.copy_(torch.full((3,), 7.0, dtype=torch.float64))
    (y * y).sum().backward()
    return y[1:, 1], x.grad.eq(0).tolist()


@case
def write_through_diagonal(torch):
    x = leaf(torch, 3, 3)
    y = x * 3
    y.diagonal().mul_(0)
    (y * y).sum().backward()
    return y, x.grad


@case
def write_through_reshape_view(torch):
    x = leaf(torch, 2, 3)
    y = x * 1
    y.view(-1)[::2].add_(100)
    y.sum().backward()
    return y, x.grad, name(y)


@case
def write_a_differentiable_value_into_plain_memory(torch):
    x = leaf(torch, 3)
    buffer = torch.zeros(2, 3, dtype=torch.float64)
    row = buffer[0]
    before = buffer.requires_grad, row.requires_grad
    buffer[1] = x * 2
    after = buffer.requires_grad, row.requires_grad
    (buffer * buffer).sum().backward()
    return before, after, buffer, x.grad


@case
def two_writes_to_one_place(torch):
    x, v = leaf(torch, 3), leaf(torch, 3, start=2.0)
    y = torch.zeros(3, dtype=torch.float64)
    y[:2] = x[:2]
    y[1:] = v[1:] * 3
    y.sum().backward()
    return y, x.grad, v.grad


@case
def copy_broadcasts(torch):
    x = leaf(torch, 3)
    y = torch.zeros(2, 3, dtype=torch.float64)
    y.copy_(x)
    (y * torch.arange(6.0, dtype=torch.float64).reshape(2, 3)).sum().backward()
    return name(y), x.grad


@case
def copy_converts(torch):
    x = leaf(torch, 3)
    y = torch.zeros(3)
    y.copy_(x)
    (y * 2).sum().backward()
    return y, x.grad


@case
def fill_cuts_the_gradient(torch):
    x = leaf(torch, 4)
    y = x * 2
    y[:2].zero_()
    y[3:].fill_(5.0)
    y.sum().backward()
    return y, x.grad


@case
def whole_tensor_zeroed(torch):
    x = leaf(torch, 2)
    y = x * 2
    y.zero_()
    z = (y + x).sum()
    z.backward()
    return y, x.grad


@case
def masked_and_indexed_writes(torch):
    x, v = leaf(torch, 5), leaf(torch, 2, start=9.0)
    y = x * 2
    y[torch.tensor([0, 3])] = v
    y[y > 10.0] = 0.5
    (y * torch.arange(5.0, dtype=torch.float64)).sum().backward()
    return y, x.grad, v.grad


@case
def repeated_index_in_a_read(torch):
    x = leaf(torch, 4)
    y = x[torch.tensor([1, 1, 3, -1])]
    (y * torch.arange(1.0, 5.0, dtype=torch.float64)).sum().backward()
    return y, x.grad


@case
def write_with_itself(torch):
    x = leaf(torch, 3)
    y = x * 1
    y += y
    y.sum().backward()
    return y, x.grad


@case
def write_of_own_transpose(torch):
    y = torch.arange(4.0).reshape(2, 2)
    return refused(lambda: y.add_(y.t())), refused(lambda: y[0].copy_(y[1])), y


@case
def overlapping_copy(torch):
    y = torch.arange(5.0)

    def shift():
        y[1:] = y[:-1]

    def shift_sum():
        y[1:] += y[:-1]
    return refused(shift)[0], refused(shift_sum)


@case
def expanded_memory_is_not_written(torch):
    y = torch.zeros(3, 1).expand(3, 4)
    return refused(lambda: y.add_(1)), refused(lambda: y.__setitem__(0, 1.0))


@case
def read_of_an_expanded_view_has_summed_gradient(torch):
    x = leaf(torch, 3, 1)
    y = x.expand(3, 4)
    (y * torch.arange(12.0, dtype=torch.float64).reshape(3, 4)).sum().backward()
    return x.grad, list(x.grad.stride())


@case
def sum_gradient_has_memory_of_its_own(torch):
    x = leaf(torch, 2, 2)
    x.sum().backward()
    x.grad[0, 0] = 5.0
    return x.grad, list(x.grad.stride())


@case
def unfold_gradient(torch):
    x = leaf(torch, 6)
    (x.unfold(0, 3, 2) ** 2).sum().backward()
    return x.grad


@case
def as_strided_gradient(torch):
    x = leaf(torch, 6)
    y = x.as_strided((2, 3), (2, 1), 1)
    (y * y).sum().backward()
    return y, x.grad


@case
def in_place_on_a_leaf(torch):
    x = leaf(torch, 2)
    return refused(lambda: x.add_(1)), refused(lambda: x.__setitem__(0, 1.0)), refused(lambda: x[0].add_(1)), refused(lambda: x.view(-1).mul_(2)), x


@case
def in_place_on_a_leaf_without_recording(torch):
    x = leaf(torch, 2)
    with torch.no_grad():
        x.add_(1)
        x[0] = 7.0
        x.view(-1)[1].mul_(2)
    return x, x.requires_grad, x.is_leaf, x._version


@case
def view_made_without_recording(torch):
    x = leaf(torch, 3)
    y = x * 2
    with torch.no_grad():
        v = y[:2]
    return refused(lambda: v.mul_(2))


@case
def parts_of_one_call_are_not_written(torch):
    x = leaf(torch, 4)
    y = x * 2
    a, b = y.chunk(2)
    c = y.unbind(0)
    d = y.split([1, 3])
    return refused(lambda: a.add_(1)), refused(lambda: c[0].add_(1)), refused(lambda: d[1].mul_(2))


@case
def parts_read(torch):
    x = leaf(torch, 6)
    y = x * 2
    a, b, c = y.chunk(3)
    u = y.unbind(0)
    (a * b + c).sum().backward(retain_graph=True)
    first = x.grad.clone()
    (u[0] * u[5]).backward()
    return name(a), name(u[0]), a.grad_fn is b.grad_fn, a.output_nr, b.output_nr, first, x.grad


@case
def in_place_functions_on_views(torch):
    x, w = leaf(torch, 3, 4, start=0.1), leaf(torch, 3, start=2.0)
    y = x * 2
    y[1].exp_()
    y.t()[2].tanh_()
    y[:, 0].mul_(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    y[0, 1:4:2].sqrt_().sigmoid_()
    y.t()[:, 2].copy_(w[0] * y[0].detach())
    (y * torch.arange(12.0, dtype=torch.float64).reshape(3, 4)).sum().backward()
    return y, x.grad, w.grad


@case
def in_place_product_with_a_leaf(torch):
    x, w = leaf(torch, 3), leaf(torch, 3, start=2.0)
    y = x * 1
    y[1:].mul_(w[1:])
    return refused(lambda: y.sum().backward())


@case
def second_derivative_through_writes(torch):
    x = leaf(torch, 4, start=0.5)
    y = x * x
    y[1:3].exp_()
    y[0] = x[3] ** 3
    g, = torch.autograd.grad((y * y).sum(), x, create_graph=True)
    h, = torch.autograd.grad(g.sum(), x)
    return g, h


@case
def detached_part_assigned_back(torch):
    x = leaf(torch, 3)
    y = x * 2
    y[0] = y.detach()[0]
    y.sum().backward()
    return y, x.grad


@case
def as_strided_that_overlaps(torch):
    x = leaf(torch, 5)
    (x.as_strided((3, 3), (1, 1)) * torch.arange(9.0, dtype=torch.float64).reshape(3, 3)).sum().backward()
    return x.grad


@case
def as_strided_of_what_overlaps(torch):
    made = []
    for make, how in ((lambda x: x.expand(3, 4), ((2, 2), (1, 1), 0)), (lambda x: x[:1].expand(4), ((1,), (1,), 0)),
                      (lambda x: (x * 1).as_strided((3, 2), (1, 1), 0), ((2, 2), (1, 1), 0)), (lambda x: (x * 1).unfold(0, 2, 1), ((4,), (1,), 0)),
                      (lambda x: x * 1, ((2, 2, 2), (1, 1, 1), 0)), (lambda x: x * 1, ((2, 3, 2), (1, 1, 0), 0))):
        x = leaf(torch, 4)
        y = make(x).as_strided(*how)
        (y * torch.arange(1.0, y.numel() + 1, dtype=torch.float64).view(y.shape)).sum().backward()
        made.append(x.grad)
    return made


@case
def as_strided_that_overlaps_twice_differentiated(torch):
    x = leaf(torch, 4)
    y = (x * x).as_strided((3, 2), (1, 1), 0)
    g, = torch.autograd.grad((y * y).sum(), x, create_graph=True)
    return g, torch.autograd.grad(g.sum(), x)[0]


@case
def a_write_through_as_strided(torch):
    x = leaf(torch, 4)
    b = x * 1
    v = b.as_strided((3, 2), (1, 1), 0)
    v[0].mul_(3)
    b.mul_(2)
    (v * torch.arange(6.0, dtype=torch.float64).view(3, 2)).sum().backward()
    return x.grad, b._version


@case
def data_has_its_own_version(torch):
    x = leaf(torch, 3)
    y = x * 1
    d = y.data
    d.add_(1)
    d[0].mul_(2)
    d.detach().add_(1)
    y.data.add_(1)
    return y._version, d._version, d[1:]._version, y.data._version, y.detach()


@case
def views_of_views_after_a_write(torch):
    x = leaf(torch, 2, 6)
    y = x * 2
    a = y.view(3, 4)
    b = a[1:].t()
    c = b.unsqueeze(0).expand(2, 4, 2)
    y[0].mul_(3)
    (c * c).sum().backward()
    return a, c, x.grad, name(b)


@case
def writes_in_a_loop(torch):
    x = leaf(torch, 5)
    out = torch.zeros(5, dtype=torch.float64)
    state = x[0] * 1
    for i in range(5):
        out[i] = state
        state = state * x[i] + 0.5
    (out * out).sum().backward()
    return out, x.grad


@case
def result_of_a_normalisation_written(torch):
    x = leaf(torch, 2, 3)
    y = torch.nn.functional.layer_norm(x * x, (3,))
    y[0] = 2.0
    y.mul_(3)
    (y * torch.arange(6.0, dtype=torch.float64).reshape(2, 3)).sum().backward()
    return x.grad


@case
def gradient_of_several_views(torch):
    x = leaf(torch, 3, 4)
    a = x.select(0, 1) * 2 + x.narrow(1, 1, 2).sum() + x.diagonal() .sum() * x[::2, 1].sum() + x.movedim(0, 1)[1, 1] + x.squeeze().unsqueeze(1).flatten()[5]
    a.sum().backward()
    return x.grad


# ---------------------------------------------------------------- versions

@case
def result_overwritten_that_its_gradient_needs(torch):
    x = leaf(torch, 2)
    y = x.exp()
    y.mul_(2)
    return refused(lambda: y.sum().backward())


@case
def operand_overwritten_that_a_gradient_needs(torch):
    x = leaf(torch, 2)
    y = x * 1
    z = y * y
    y.add_(1)
    return refused(lambda: z.sum().backward())


@case
def operand_overwritten_that_no_gradient_needs(torch):
    x = leaf(torch, 2)
    y = x * 1
    z = y + 3
    y.add_(1)
    z.sum().backward()
    return x.grad


@case
def other_operand_without_gradient_overwritten(torch):
    x, w = leaf(torch, 2), torch.ones(2, dtype=torch.float64)
    y = x * w
    w.add_(1)
    return refused(lambda: y.sum().backward())


@case
def overwritten_through_a_view(torch):
    x = leaf(torch, 4)
    y = x * 1
    z = y.sin()
    y[2:] = 0.0
    return refused(lambda: z.sum().backward())


@case
def overwritten_through_detach(torch):
    x = leaf(torch, 2)
    y = x.sigmoid()
    y.detach().zero_()
    return refused(lambda: y.sum().backward())


@case
def overwritten_through_data(torch):
    x = leaf(torch, 2)
    y = x * x
    x.data.add_(1)
    before = x._version
    y.sum().backward()
    return before, x.grad, x


@case
def parameter_updated_before_backward(torch):
    w = leaf(torch, 2)
    y = (w * w).sum()
    with torch.no_grad():
        w -= 0.1
    return refused(lambda: y.backward())


@case
def versions_count(torch):
    x = torch.zeros(4)
    seen = [x._version]
    x.add_(1)
    seen.append(x._version)
    x[1:3] = 5.0
    seen.append(x._version)
    v = x[1:]
    v.mul_(2)
    seen += [x._version, v._version]
    d = x.detach()
    d.zero_()
    seen += [x._version, d._version]
    return seen


@case
def in_place_chain(torch):
    x = leaf(torch, 3)
    y = x.clone()
    y.mul_(2).add_(1).exp_()
    y.sum().backward()
    return name(y), x.grad


@case
def in_place_activation(torch):
    x = leaf(torch, 4, start=-0.5)
    y = (x * 2).relu_()
    z = (x * 1).tanh_()
    w = (x * 1).sigmoid_()
    (y + z + w).sum().backward()
    return name(y), name(z), name(w), x.grad


# ---------------------------------------------------------------- leaves and flags

@case
def leaves(torch):
    x = leaf(torch, 2)
    y = x * 2
    d = y.detach()
    out = [x.is_leaf, y.is_leaf, d.is_leaf, x.grad_fn is None, y.requires_grad, d.requires_grad]
    out.append(refused(lambda: y.requires_grad_(False)))
    out.append(refused(lambda: setattr(y, "requires_grad", False)))
    out.append(refused(lambda: torch.tensor([1]).requires_grad_())[:2])
    y.requires_grad_()
    x.requires_grad_(False)
    return [*out, x.requires_grad]


@case
def detach_in_place(torch):
    x = leaf(torch, 2)
    y = x * 2
    v = y[:1]
    out = [refused(lambda: v.detach_())]
    y.detach_()
    return [*out, y.requires_grad, y.is_leaf, y.grad_fn is None]


@case
def assigned_gradients(torch):
    x = leaf(torch, 2)
    out = [refused(lambda: setattr(x, "grad", torch.zeros(3, dtype=torch.float64))), refused(lambda: setattr(x, "grad", torch.zeros(2))),
           refused(lambda: setattr(x, "grad", 1.0))[:2]]
    x.grad = torch.ones(2, dtype=torch.float64)
    (x * 3).sum().backward()
    return [*out, x.grad]


@case
def deep_copies(torch):
    x = leaf(torch, 2)
    (x * 2).sum().backward()
    c = copy.deepcopy(x)
    c.grad.add_(1)
    return c, c.requires_grad, c.is_leaf, c.grad, x.grad, refused(lambda: copy.deepcopy(x * 2))[:2]


@case
def modes(torch):
    x = leaf(torch, 2)
    seen = []

    @torch.no_grad()
    def quiet():
        return (x * 2).requires_grad

    @torch.no_grad()
    def numbers():
        yield torch.is_grad_enabled()
        yield (x * 2).requires_grad

    with torch.no_grad():
        seen.append((x * 2).requires_grad)
        with torch.enable_grad():
            seen.append((x * 2).requires_grad)
        seen.append(torch.is_grad_enabled())
    seen.append(torch.is_grad_enabled())
    seen.append(quiet())
    for v in numbers():
        seen += [v, torch.is_grad_enabled()]
    with torch.set_grad_enabled(False):
        seen.append((x * 2).requires_grad)
    torch.set_grad_enabled(False)
    seen.append((x * 2).requires_grad)
    torch.set_grad_enabled(True)
    seen.append((x * 2).requires_grad)
    try:
        with torch.no_grad():
            raise KeyError
    except KeyError:
        seen.append(torch.is_grad_enabled())
    return seen


@case
def inference_tensors(torch):
    x = leaf(torch, 2)
    with torch.inference_mode():
        y = x * 2
        inside = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), y.requires_grad
    return inside, torch.is_inference_mode_enabled(), torch.is_grad_enabled(), y.requires_grad, y


@case
def integer_results_have_no_gradient(torch):
    x = leaf(torch, 3)
    return (x > 1).requires_grad, x.argmax().requires_grad, x.long().requires_grad, x.sign().requires_grad


# ---------------------------------------------------------------- backward and grad

@case
def backward_needs_a_scalar(torch):
    x = leaf(torch, 2)
    return (
        refused(lambda: (x * 2).backward()), refused(lambda: (x * 2).backward(torch.ones(3, dtype=torch.float64))),
        refused(lambda: torch.ones(1).sum().backward()),
    )


@case
def backward_twice(torch):
    x = leaf(torch, 2)
    y = (x * x).sum()
    y.backward()
    return x.grad, refused(y.backward)


@case
def backward_twice_without_saved_tensors(torch):
    x = leaf(torch, 2)
    y = (x + 1).sum()
    y.backward()
    return refused(y.backward), x.grad


@case
def backward_twice_with_retain_graph(torch):
    x = leaf(torch, 2)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    return x.grad, refused(y.backward)[:2]


@case
def two_losses_on_one_trunk(torch):
    x = leaf(torch, 2)
    h = x.exp()
    a, b = (h * 2).sum(), (h * h).sum()
    a.backward(retain_graph=True)
    b.backward()
    return x.grad


@case
def backward_with_a_vector(torch):
    x = leaf(torch, 3)
    y = x * x
    v = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    y.backward(v)
    v.zero_()
    return x.grad


@case
def backward_vector_is_not_shared(torch):
    x = leaf(torch, 3)
    y = x + 1
    v = torch.ones(3, dtype=torch.float64)
    y.backward(v)
    v.mul_(50)
    g = x.grad.clone()
    x.grad.add_(7)
    return g, v


@case
def backward_of_a_leaf(torch):
    x = leaf(torch)
    x.backward()
    x.backward()
    return x.grad, x.is_leaf


@case
def backward_of_several(torch):
    x = leaf(torch, 2)
    a, b = (x * 2).sum(), x * 3
    torch.autograd.backward([a, b], [None, torch.ones(2, dtype=torch.float64)])
    return x.grad


@case
def backward_into_chosen_inputs(torch):
    x, w = leaf(torch, 2), leaf(torch, 2, start=3.0)
    h = x * w
    y = (h * h).sum()
    y.backward(inputs=[x], retain_graph=True)
    first = [x.grad.clone(), w.grad]
    y.backward(inputs=[w, h])
    h.retain_grad()
    return first, x.grad, w.grad, refused(lambda: (x * 1).sum().backward(inputs=[])), h.grad


@case
def grad_of_leaves(torch):
    x, w = leaf(torch, 2), leaf(torch, 2, start=3.0)
    y = (x * w).sum()
    g = torch.autograd.grad(y, [x, w])
    return g, x.grad, w.grad, refused(lambda: torch.autograd.grad(y, x))


@case
def grad_of_an_intermediate(torch):
    x = leaf(torch, 2)
    h = x * 3
    y = (h * h).sum()
    gh, gx = torch.autograd.grad(y, [h, x])
    return gh, gx


@case
def grad_unused(torch):
    x, w = leaf(torch, 2), leaf(torch, 2)
    y = (x * 2).sum()
    out = [refused(lambda: torch.autograd.grad(y, [x, w], retain_graph=True))]
    out.append(torch.autograd.grad(y, [x, w], allow_unused=True, retain_graph=True))
    out.append(torch.autograd.grad(y, [x, w], materialize_grads=True))
    out.append(refused(lambda: torch.autograd.grad(y, torch.ones(2))))
    out.append(refused(lambda: torch.autograd.grad(y, [x], allow_unused=False, materialize_grads=True))[:2])
    return out


@case
def grad_of_one_input_twice(torch):
    x = leaf(torch, 2)
    return torch.autograd.grad((x * x).sum(), [x, x])


@case
def grad_with_outputs(torch):
    x = leaf(torch, 2)
    a, b = x * 2, x * x
    return torch.autograd.grad([a, b], [x], [torch.ones(2, dtype=torch.float64), torch.tensor([1.0, 3.0], dtype=torch.float64)])


@case
def grad_does_not_run_what_is_not_needed(torch):
    x, w = leaf(torch, 2), leaf(torch, 2)
    ran = []
    h = w * 2
    h.register_hook(lambda g: ran.append("h"))
    y = (x * h).sum()
    torch.autograd.grad(y, [x])
    return ran


@case
def second_derivatives(torch):
    x = leaf(torch, 3)
    y = (x ** 3 + x.exp() * x.sin()).sum()
    g, = torch.autograd.grad(y, x, create_graph=True)
    gg, = torch.autograd.grad((g * g).sum(), x, create_graph=True)
    ggg, = torch.autograd.grad(gg.sum(), x)
    return g, gg, ggg, g.requires_grad, ggg.requires_grad


@case
def gradient_penalty(torch):
    x, w = leaf(torch, 2, 3), leaf(torch, 3, 2, start=0.5)
    y = (x @ w).tanh().sum()
    g, = torch.autograd.grad(y, x, create_graph=True)
    (g.norm() ** 2 + y).backward()
    return x.grad, w.grad


@case
def second_derivatives_of_composites(torch):
    f = torch.nn.functional
    out = []
    for fn in (lambda t: torch.softmax(t, 1), lambda t: torch.log_softmax(t, 1), lambda t: torch.logsumexp(t, 1), lambda t: t.var(1), lambda t: t.std(0),
               lambda t: f.layer_norm(t, (3,)), lambda t: f.gelu(t), lambda t: f.silu(t), lambda t: f.softplus(t),
               lambda t: f.mse_loss(t, t.detach() * 0.5), lambda t: f.linear(t, t), lambda t: t.norm(dim=1)):
        x = leaf(torch, 2, 3, start=-0.3)
        y = fn(x)
        w = torch.arange(1.0, y.numel() + 1, dtype=torch.float64).reshape(y.shape)
        g, = torch.autograd.grad((y * w).sum(), x, create_graph=True)
        h, = torch.autograd.grad((g * torch.arange(6.0, dtype=torch.float64).reshape(2, 3)).sum(), x)
        out.append([g, h])
    return out


@case
def cross_entropy_second_derivative(torch):
    x = leaf(torch, 2, 3)
    loss = torch.nn.functional.cross_entropy(x, torch.tensor([2, 0]))
    g, = torch.autograd.grad(loss, x, create_graph=True)
    h, = torch.autograd.grad((g * g).sum(), x)
    return loss, g, h


@case
def create_graph_into_grad(torch):
    x = leaf(torch, 2)
    (x ** 3).sum().backward(create_graph=True)
    g = x.grad
    h, = torch.autograd.grad(g.sum(), x)
    return g, g.requires_grad, h


# ---------------------------------------------------------------- accumulation

@case
def accumulation_keeps_the_object(torch):
    x = leaf(torch, 2)
    (x * 2).sum().backward()
    g = x.grad
    alias, part = g.detach(), g[:1]
    (x * 3).sum().backward()
    return x.grad is g, g, alias, part


@case
def gradients_do_not_share_memory(torch):
    a, b = leaf(torch, 2), leaf(torch, 2)
    (a + b).sum().backward()
    a.grad.mul_(100)
    out = [b.grad.clone()]
    c, d = leaf(torch, 2), leaf(torch, 2)
    (c - 1 + d).backward(torch.ones(2, dtype=torch.float64))
    c.grad.zero_()
    return [*out, d.grad]


@case
def same_leaf_used_many_times(torch):
    x = leaf(torch, 2)
    y = x
    for _ in range(5):
        y = y * x + x
    y.sum().backward()
    return x.grad


@case
def gradient_has_the_dtype_and_shape_of_the_leaf(torch):
    x = torch.ones(3, 1, requires_grad=True)
    y = torch.ones(4, dtype=torch.float64)
    z = torch.tensor(2.0, requires_grad=True)
    (x * y * z).sum().backward()
    return x.grad, z.grad


@case
def gradient_of_a_permuted_use(torch):
    x = leaf(torch, 2, 3)
    (x.t().contiguous() * torch.arange(6.0, dtype=torch.float64).reshape(3, 2)).sum().backward()
    return x.grad


# ---------------------------------------------------------------- hooks

@case
def tensor_hooks(torch):
    x = leaf(torch, 2)
    h = x * 2
    seen = []
    first = h.register_hook(lambda g: seen.append(g.tolist()))
    h.register_hook(lambda g: g * 10)
    h.register_hook(lambda g: seen.append(g.tolist()))
    y = (h * 3).sum()
    y.backward(retain_graph=True)
    first.remove()
    first.remove()
    y.backward()
    return seen, x.grad


@case
def leaf_hooks(torch):
    x = leaf(torch, 2)
    seen = []
    x.register_hook(lambda g: seen.append(g.tolist()))
    x.register_hook(lambda g: g + 1)
    x.register_post_accumulate_grad_hook(lambda t: seen.append(["post", t.grad.tolist(), t is x]))
    (x * 2 + x * 3).sum().backward()
    g, = torch.autograd.grad((x * 4).sum(), x)
    return seen, x.grad, g


@case
def hooks_that_do_not_fit(torch):
    x = leaf(torch, 2)
    out = [refused(lambda: torch.ones(2).register_hook(print)), refused(lambda: (x * 2).register_post_accumulate_grad_hook(print))]
    h = x * 2
    h.register_hook(lambda g: "text")
    return [*out, refused(lambda: h.sum().backward())[:2]]


@case
def hook_that_changes_the_gradient_in_place(torch):
    x = leaf(torch, 2)
    y = x * 1
    y.register_hook(lambda g: g.mul_(2) and None if False else None)
    z = leaf(torch, 2)
    z.register_hook(lambda g: g.clone().mul_(5))
    (y * z).sum().backward()
    return x.grad, z.grad


@case
def gradient_kept_by_a_hook_is_not_the_leafs(torch):
    x = leaf(torch, 2)
    kept = []
    x.register_hook(lambda g: kept.append(g))
    (x * 2).sum().backward()
    x.grad.zero_()
    return kept, x.grad


@case
def retained_gradients(torch):
    x = leaf(torch, 2)
    h = x * 2
    h.retain_grad()
    h.retain_grad()
    out = [h.retains_grad, x.retains_grad]
    y = (h * h).sum()
    y.backward(retain_graph=True)
    out.append(h.grad.clone())
    y.backward()
    return [*out, h.grad, refused(lambda: torch.ones(1).retain_grad())]


@case
def retained_gradient_after_a_write(torch):
    x = leaf(torch, 2)
    h = x * 2
    h.retain_grad()
    h.mul_(5)
    (h * 3).sum().backward()
    return h.grad, x.grad


@case
def hook_before_a_write_sees_the_old_value(torch):
    x = leaf(torch, 2)
    h = x * 2
    seen = []
    h.register_hook(lambda g: seen.append(g.tolist()))
    h.mul_(5)
    h.register_hook(lambda g: seen.append(g.tolist()))
    (h * 3).sum().backward()
    return seen


@case
def node_hooks(torch):
    x = leaf(torch, 2)
    y = x.exp()
    seen = []
    y.grad_fn.register_hook(lambda gi, go: seen.append([[g.tolist() for g in gi], [g.tolist() for g in go]]))
    y.grad_fn.register_prehook(lambda go: (go[0] * 2,))
    y.sum().backward()
    return seen, x.grad


@case
def node_names_and_edges(torch):
    x, w = leaf(torch, 2, 2), leaf(torch, 2, 2)
    y = ((x @ w).relu() + 1).sum()
    n = y.grad_fn
    names = []
    while n is not None:
        names.append(n.name().rpartition("::")[2])
        following = [m for m, _ in n.next_functions]
        n = following[0] if following else None
    return names


@case
def accumulate_node_knows_its_variable(torch):
    x = leaf(torch, 2)
    n = (x * 2).grad_fn.next_functions[0][0]
    return n.variable is x, n.next_functions


@case
def post_accumulate_optimizer(torch):
    x = leaf(torch, 2)

    def step(p):
        with torch.no_grad():
            p -= 0.1 * p.grad
        p.grad = None
    x.register_post_accumulate_grad_hook(step)
    for _ in range(2):
        (x * x).sum().backward()
    return x, x.grad


# ---------------------------------------------------------------- custom functions

def cube(torch):
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            ctx.save_for_backward(x)
            ctx.scale = scale
            return x ** 3 * scale

        @staticmethod
        def backward(ctx, g):
            x, = ctx.saved_tensors
            return g * 3 * x ** 2 * ctx.scale, None
    return Cube


@case
def custom_function(torch):
    x = leaf(torch, 2)
    y = cube(torch).apply(x, 2.0)
    y.sum().backward()
    return name(y), y.requires_grad, x.grad


@case
def custom_function_twice(torch):
    x = leaf(torch, 2)
    y = cube(torch).apply(x, 1.0).sum()
    y.backward()
    return refused(y.backward)


@case
def custom_function_second_derivative(torch):
    x = leaf(torch, 2)
    g, = torch.autograd.grad(cube(torch).apply(x, 1.0).sum(), x, create_graph=True)
    return torch.autograd.grad(g.sum(), x)


@case
def custom_function_of_the_newer_style(torch):
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(a, b):
            return a * b, a + b

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, gp, gs):
            a, b = ctx.saved_tensors
            return gp * b + gs, gp * a + gs
    a, b = leaf(torch, 2), leaf(torch, 2, start=4.0)
    p, s = Product.apply(a, b)
    (p * 2).sum().backward()
    return name(p), p.output_nr, s.output_nr, a.grad, b.grad


@case
def custom_function_saves_its_result(torch):
    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            y, = ctx.saved_tensors
            return g * y
    x = leaf(torch, 2)
    g, = torch.autograd.grad(Exp.apply(x).sum(), x, create_graph=True)
    h, = torch.autograd.grad(g.sum(), x, create_graph=True)
    y = Exp.apply(x)
    y.mul_(2)
    return g, h, refused(lambda: y.sum().backward())


@case
def custom_function_changed_input(torch):
    x = leaf(torch, 2)
    h = x * 1
    y = cube(torch).apply(h, 1.0)
    h.add_(1)
    return refused(lambda: y.sum().backward())


@case
def custom_function_in_place(torch):
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2
    x = leaf(torch, 2)
    h = x * 1
    y = Double.apply(h)
    (y * y).sum().backward()
    return y is h, name(h), x.grad


@case
def custom_function_returns_its_input(torch):
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 7
    x = leaf(torch, 2)
    y = Same.apply(x)
    y.sum().backward()
    return y is x, y.requires_grad, y.is_leaf, x.grad


@case
def custom_function_flags(torch):
    seen = []

    class Many(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b, c):
            seen.append(list(ctx.needs_input_grad))
            index = (a > 1).long()
            ctx.mark_non_differentiable(index)
            ctx.set_materialize_grads(False)
            return a * 1, b * 2, index

        @staticmethod
        def backward(ctx, ga, gb, gi):
            seen.append([ga is None, gb is None, gi is None])
            return None if ga is None else ga, None if gb is None else gb * 2, None
    a, b = leaf(torch, 2), torch.ones(2, dtype=torch.float64)
    y, z, i = Many.apply(a, b, "text")
    y.sum().backward()
    return seen, i.requires_grad, z.requires_grad, a.grad


@case
def custom_function_materialized_zeros(torch):
    seen = []

    class Two(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a * 1, a * 2

        @staticmethod
        def backward(ctx, g0, g1):
            seen.append([g0.tolist(), g1.tolist()])
            return g0 + 2 * g1
    x = leaf(torch, 2)
    Two.apply(x)[1].sum().backward()
    return seen, x.grad


@case
def custom_function_wrong_backward(torch):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, g):
            return g

    class Shape(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a * 1

        @staticmethod
        def backward(ctx, g):
            return torch.ones(5, dtype=torch.float64)
    x = leaf(torch, 2)
    return refused(lambda: Wrong.apply(x, x).sum().backward()), refused(lambda: Shape.apply(x).sum().backward())


@case
def custom_function_without_gradient(torch):
    x = torch.ones(2)
    y = cube(torch).apply(x, 1.0)
    with torch.no_grad():
        z = cube(torch).apply(leaf(torch, 2), 1.0)
    return y.requires_grad, z.requires_grad, refused(lambda: cube(torch)())[:2]


@case
def once_differentiable(torch):
    from_module = torch.autograd.function.once_differentiable

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @from_module
        def backward(ctx, g):
            x, = ctx.saved_tensors
            return g * 2 * x
    x = leaf(torch, 2)
    Once.apply(x).sum().backward()
    g, = torch.autograd.grad(Once.apply(x).sum(), x, create_graph=True)
    return x.grad, refused(lambda: g.sum().backward())


@case
def custom_function_returns_a_saved_tensor_as_gradient(torch):
    class Keep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(w)
            return (x * w).sum()

        @staticmethod
        def backward(ctx, g):
            w, = ctx.saved_tensors
            return w, None
    x, w = leaf(torch, 2), torch.ones(2, dtype=torch.float64) * 3
    Keep.apply(x, w).backward()
    x.grad.zero_()
    return w, x.grad


# ---------------------------------------------------------------- saved tensors, anomalies

@case
def saved_tensor_hooks(torch):
    seen = []

    def pack(t):
        seen.append(["pack", list(t.shape)])
        return t * 2

    def unpack(t):
        seen.append("unpack")
        return t
    x = leaf(torch, 2)
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = x * x
    z = y.exp()
    z.sum().backward()
    return seen, x.grad


@case
def saved_tensor_hooks_on_a_composite(torch):
    packed = []
    x = leaf(torch, 2, 3)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(1) or t, lambda t: t):
        y = torch.softmax(x, 1)
    (y * y).sum().backward()
    return len(packed) > 0, x.grad


@case
def anomaly_mode(torch):
    x = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)

    def run():
        with torch.autograd.detect_anomaly():
            y = (x.sqrt() * 0).sum()
            y.backward()
    out = refused(run)
    return out, torch.is_anomaly_enabled()


@case
def anomaly_mode_without_check(torch):
    x = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        (x.sqrt() * 0).sum().backward()
    return x.grad.isnan()


@case
def checkpointed(torch):
    from_utils = torch.utils.checkpoint.checkpoint if hasattr(torch.utils, "checkpoint") else None
    x = leaf(torch, 2)
    calls = []

    def block(t):
        calls.append(1)
        return (t * t).exp()
    y = from_utils(block, x, use_reentrant=False)
    y.sum().backward()
    return len(calls), x.grad


@case
def jacobians(torch):
    f = torch.autograd.functional
    x = leaf(torch, 2).detach()
    return (f.jacobian(lambda t: t ** 2 * t.sum(), x), f.hessian(lambda t: (t ** 3).sum(), x), f.vjp(lambda t: t.exp(), x, torch.ones_like(x)),
            f.jvp(lambda t: t.sin(), x, torch.ones_like(x)), f.hvp(lambda t: (t ** 3).sum(), x, torch.ones_like(x)))


@case
def gradients_are_checked(torch):
    x = leaf(torch, 2)

    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, t):
            return t ** 2

        @staticmethod
        def backward(ctx, g):
            return g
    return (torch.autograd.gradcheck(lambda t: t.sin() * t, (x,)), torch.autograd.gradgradcheck(lambda t: t ** 3, (x,)),
            refused(lambda: torch.autograd.gradcheck(Bad.apply, (x,)))[:2], torch.autograd.gradcheck(Bad.apply, (x,), raise_exception=False))


@case
def gradients_are_checked_fast(torch):
    class Bad(torch.autograd.Function):
        calls, passes, wrong = 0, 0, 0.0

        @staticmethod
        def forward(ctx, t, u):
            Bad.calls += 1
            ctx.save_for_backward(t, u)
            return t * u, t ** 2

        @staticmethod
        def backward(ctx, g, h):
            Bad.passes += 1
            t, u = ctx.saved_tensors
            return g * u + 2 * h * t + Bad.wrong, g * t

    x, w = leaf(torch, 5, 4), leaf(torch, 5, 4)
    check = torch.autograd.gradcheck
    out = [check(Bad.apply, (x, w), fast_mode=True)]
    few = Bad.calls < 20 and Bad.passes < 20
    Bad.wrong = 1.0
    out += [few, check(Bad.apply, (x, w), raise_exception=False, fast_mode=True), refused(lambda: check(Bad.apply, (x, w), fast_mode=True))[:1]]
    out += [torch.autograd.gradgradcheck(lambda t, u: (t ** 3 * u, u.exp()), (x, w), fast_mode=True), check(lambda t: (t * t).sum(), (x,), fast_mode=True)]
    draw = torch.initial_seed()
    return out, draw == torch.initial_seed()


@case
def where_and_clamp(torch):
    x, w = leaf(torch, 4, start=-0.5), leaf(torch, 4)
    (torch.where(x > 0, x * w, w) + x.clamp(-0.3, 0.1) + torch.maximum(x, w)).sum().backward()
    return x.grad, w.grad


@case
def reductions_with_ties(torch):
    x = torch.tensor([1.0, 3.0, 3.0, 2.0], dtype=torch.float64, requires_grad=True)
    x.max().backward()
    first = x.grad.clone()
    x.amax(0).backward()
    second = x.grad.clone()
    x.max(0).values.backward()
    return first, second, x.grad


@case
def prod_with_zeros(torch):
    x = torch.tensor([2.0, 0.0, 3.0], dtype=torch.float64, requires_grad=True)
    x.prod().backward()
    return x.grad


@case
def cat_and_stack(torch):
    a, b = leaf(torch, 2), leaf(torch, 3)
    (torch.cat([a, b, a]) * torch.arange(7.0, dtype=torch.float64)).sum().backward()
    torch.stack([a, a * 2]).sum().backward()
    return a.grad, b.grad


@case
def matmul_gradients(torch):
    a, b, v = leaf(torch, 2, 3), leaf(torch, 3, 2), leaf(torch, 3)
    ((a @ b).sum() + (a @ v).sum() + (v @ b).sum() + v @ v).backward()
    return a.grad, b.grad, v.grad


def main():
    import torch
    answers = {n: carry_out(f, torch) for n, f in CASES.items()}
    RECORDED.write_text(json.dumps({"made by": f"python tests/autograd_cases.py, PyTorch {torch.__version__}", "answers": answers}, indent=1) + "\n")


if __name__ == "__main__":
    main()
