"""Calls that are wrong, or nearly so, made by rule: each operation with each kind of unfit argument.

``record_torch.py`` asks PyTorch which exception each gives (some it accepts); ``tests/test_recorded.py`` asks Flambeau.
"""

from __future__ import annotations

from collections.abc import Iterator

HEAD = "x, nn, F = torch.ones(2, 3), torch.nn, torch.nn.functional\n"

CREATION = (
    "torch.empty(2**40, 2**40)", "torch.zeros(2**40, 2**40)", "torch.ones(2**62, 2)", "torch.full((2**40, 2**40), 1.0)", "torch.empty(2**63)",
    "torch.empty(2**64)", "torch.empty(2**62)", "torch.zeros(2**61)", "torch.empty(2**40, 2**40, device='meta')", "torch.rand(2**40, 2**40)",
    "torch.randn(2**62, 4)", "torch.randint(5, (2**40, 2**40))", "torch.empty(2**50)", "torch.zeros(2**50)", "torch.ones(2**50)", "torch.rand(2**50)",
    "torch.empty((2**40, 2**40), dtype=torch.bool)", "torch.empty(-1)", "torch.zeros(3, -2)", "torch.ones(-1, 0)", "torch.full((-1,), 0)", "torch.rand(-1)",
    "torch.randn(2, -3)", "torch.randint(5, (-1,))", "torch.randperm(-1)", "torch.eye(-1)", "torch.eye(3, -1)", "torch.eye(2**40)",
    "torch.linspace(0, 1, -1)", "torch.logspace(0, 1, -1)", "torch.arange(2**62, dtype=torch.int64)", "torch.arange(0, 1e30)", "torch.arange(0, 1, 1e-30)",
    "torch.arange(float('inf'))", "torch.arange(float('nan'))", "torch.arange(0, 5, 0)", "torch.arange(5, 0, 1)", "torch.arange(0, 2**63)",
    "torch.arange(2**50)", "torch.linspace(0, 1, 2**50)", "torch.empty_strided((2, 2), (2**62, 1))", "torch.empty_strided((2**40, 2**40), (1, 1))",
    "torch.empty_strided((2,), (-1,))", "torch.empty_strided((-2,), (1,))", "torch.empty_strided((2, 2), (1,))", "x.new_empty(2**40, 2**40)",
    "x.new_zeros((-1,))", "x.new_full((2**50,), 1.0)", "torch.zeros(2.5)", "torch.zeros((2, 'a'))", "torch.zeros(None)", "torch.empty()",
    "torch.zeros_like(x, dtype='float')", "torch.tril_indices(-1, 2)", "torch.randperm(2**50)", "torch.Tensor(2**40, 2**40)", "torch.Tensor(-1)",
    "torch.empty(2**31, 2**31, 2**31)", "torch.empty(0, 2**62, 4)", "torch.zeros(2**40, 0, 2**40).shape",
)

VIEWS = (
    "x.view(2**62, 2)", "x.view(2**62, 4)", "x.view(-1, 2**62)", "x.view(-1, -1)", "x.view(-2, 3)", "x.view(0, -1)", "x.view(2**32, 2**32)",
    "x.reshape(2**62, 4)", "x.reshape(2**32, 2**32)", "x.reshape(-1, 0)", "x.view(7)", "x.view(2**64, 1)", "torch.empty(0).view(-1, 0)",
    "torch.empty(0).view(2**62, 0).shape", "torch.empty(0).view(2**62, 4)", "torch.empty(0).view(2**62, 4, 0)", "x.expand(2**62, 2, 3)",
    "x.expand(2**40, 2**40, 2, 3)", "x.expand(-1, 2, 3)", "x.expand(3)", "x.expand(4, 3)", "x.expand(2, -2)", "x[:1].expand(2**62, 3)",
    "x.expand(2**50, 2, 3).clone()", "x.expand(2**62, 2, 3).contiguous()", "x.repeat(2**62, 2)", "x.repeat(2**32, 2**32)", "x.repeat(2**50, 1)",
    "x.repeat(-1, 1)", "x.repeat(2)", "x.tile((2**62, 2))", "x.tile((-1,))", "x.repeat_interleave(-1)", "x.repeat_interleave(2**62)",
    "x.repeat_interleave(torch.tensor([1, 2, 3]), 0)", "x.repeat_interleave(torch.tensor([-1, 2]), 0)", "x.as_strided((2**62, 4), (0, 0))",
    "x.as_strided((2,), (2**62,))", "x.as_strided((7,), (1,))", "x.as_strided((-1,), (1,))", "x.as_strided((2,), (-1,))", "x.as_strided((2, 2), (1,))",
    "x.as_strided((2,), (1,), -1)", "x.as_strided((2,), (1,), 5)", "x.resize_(2**40, 2**40)", "x.resize_(-1)", "x.resize_(2**50)", "x.unfold(0, 5, 1)",
    "x.unfold(0, 1, 0)", "x.unfold(0, -1, 1)", "x.unfold(0, 1, -1)", "x.unfold(3, 1, 1)", "x.unflatten(0, (3, 5))", "x.unflatten(0, (-1, -1))",
    "x.unflatten(0, ())", "x.flatten(1, 0)", "x.flatten(5)", "x.narrow(0, 1, 5)", "x.narrow(0, -5, 1)", "x.narrow(0, 0, -1)", "x.select(0, 2)",
    "x.select(2, 0)", "x.select(0, -3)", "x.movedim(0, 5)", "x.movedim((0, 1), (0,))", "x.permute(0, 0)", "x.permute(0, 1, 2)", "x.transpose(0, 2)",
    "x.t().t().unsqueeze(-1).t()", "x.unsqueeze(4)", "x.squeeze(-4)", "x.diagonal(0, 0, 0)", "x.diagonal(2**40)", "x.diag_embed(0, 0, 0)",
    "torch.diag(torch.ones(1, 2, 2))", "x.split(0)", "x.split(-1)", "x.split([1, 2, 3])", "x.split([-1, 3])", "x.chunk(-1)", "x.tensor_split(0)",
    "x.tensor_split([1, 2], 5)", "torch.hsplit(x, 2)", "torch.vsplit(torch.ones(3), 1)", "torch.dsplit(x, 1)", "F.pad(x, (1,))", "F.pad(x, (-3, 0))",
    "F.pad(x, (-4, 0))", "F.pad(x, (2**62, 2**62))", "F.pad(x, (1, 1, 1, 1, 1, 1))", "F.pad(x[None], (3, 0), 'reflect')",
    "F.pad(x[None], (-1, 0), 'reflect')", "F.pad(x, (1, 1), 'nothing')", "F.pad(x[None], (4, 0), 'circular')", "x.roll((1, 2), (0,))", "x.roll(1, 5)",
    "x.flip(3)", "x.flip((0, 0))", "x.rot90(1, (0, 0))", "x.rot90(1, (0,))", "torch.broadcast_to(x, (3,))", "torch.broadcast_tensors(x, torch.ones(4))",
    "torch.broadcast_shapes((2, 3), (4,))", "torch.broadcast_shapes((-1,))", "torch.meshgrid(x, x)", "torch.cartesian_prod(x)", "torch.combinations(x)",
    "torch.vander(x)", "torch.cat([x, x], 3)", "torch.cat(x)", "torch.cat([x, 1])", "torch.cat([x, torch.ones(3)])", "torch.stack([])",
    "torch.stack([x, x], 4)", "torch.hstack([x, torch.ones(3, 3)])", "torch.vstack([x, torch.ones(4)])", "torch.block_diag(torch.ones(1, 1, 1))",
    "torch.column_stack([x, torch.ones(3)])",
)

LAYERS = (
    "F.linear(x, torch.ones(4, 3), torch.ones(5))", "F.linear(x, torch.ones(4, 3), torch.ones(1, 4))", "F.linear(x, torch.ones(4, 3), torch.ones(1, 2, 4))",
    "F.linear(x, torch.ones(4, 3), torch.ones(4).double())", "F.linear(x, torch.ones(4, 3), torch.ones(4, device='meta'))",
    "F.linear(x, torch.ones(2, 4, 3))", "F.linear(x, torch.ones(3))", "F.linear(x, torch.tensor(1.0))", "F.linear(torch.tensor(1.0), torch.ones(4, 3))",
    "F.linear(x, torch.ones(4, 3), 1.0)", "F.linear(x.long(), torch.ones(4, 3).long(), torch.ones(4).long())",
    "F.linear(torch.ones(2, 2, 4), torch.ones(4, 3))", "F.linear(torch.ones(4), torch.ones(4, 3))", "F.linear(x, torch.ones(4, 3), torch.tensor(1.0))",
    "F.linear(x, torch.ones(3), torch.ones(2))", "F.linear(torch.ones(0, 3), torch.ones(4, 3))", "F.bilinear(x, x, torch.ones(4, 3, 2))",
    "F.bilinear(x, x, torch.ones(4, 2, 3))", "F.bilinear(x, torch.ones(4, 3), torch.ones(4, 3, 3))", "F.bilinear(x, x, torch.ones(3, 3))",
    "F.bilinear(x, x, torch.ones(4, 3, 3), torch.ones(5))", "F.bilinear(x, torch.ones(1, 2, 3), torch.ones(4, 3, 3))",
    "F.bilinear(x, x.double(), torch.ones(4, 3, 3))", "F.bilinear(x, x, torch.ones(4, 3, 3, device='meta'))", "nn.Linear(-1, 2)", "nn.Linear(2**40, 2**40)",
    "nn.Linear(2.0, 3)", "nn.Bilinear(0, 1, 1)", "nn.Conv2d(3, 4, 3, groups=2)", "nn.Conv2d(4, 3, 3, groups=2)", "nn.Conv2d(4, 4, 3, groups=0)",
    "nn.Conv2d(4, 4, 3, groups=-1)", "nn.Conv2d(3, 4, 3, padding='nothing')", "nn.Conv2d(3, 4, 3, stride=2, padding='same')",
    "nn.Conv2d(3, 4, 3, padding_mode='nothing')", "nn.Conv2d(3, 4, -1)", "nn.Conv2d(3, 4, 0)(torch.ones(1, 3, 4, 4))", "nn.Conv2d(3, 4, 'a')",
    "nn.ConvTranspose2d(3, 4, 3, groups=2)", "nn.ConvTranspose2d(3, 4, 3, padding_mode='reflect')",
    "nn.ConvTranspose2d(3, 4, 3, stride=2)(torch.ones(1, 3, 4, 4), output_size=(20, 20))", "nn.Embedding(-1, 2)", "nn.Embedding(3, 2, padding_idx=5)",
    "nn.LSTM(0, 1)", "nn.LSTM(1, 0)", "nn.LayerNorm(-1)", "nn.MultiheadAttention(5, 2)", "nn.GroupNorm(2, 3)", "nn.BatchNorm2d(3)(torch.ones(2, 3))",
    "nn.PixelShuffle(2)(torch.ones(1, 3, 2, 2))",
)

PRODUCTS = (
    "torch.matmul({}, {})", "{} @ {}", "torch.mm({}, {})", "torch.bmm({}, {})", "torch.mv({}, {})", "torch.dot({}, {})", "torch.inner({}, {})",
    "torch.outer({}, {})", "torch.vdot({}, {})", "F.linear({}, {})", "torch.tensordot({}, {}, 1)", "torch.chain_matmul({}, {})",
    "torch.linalg.multi_dot([{}, {}])", "torch.kron({}, {})", "torch.linalg.cross({}, {})", "torch.einsum('ij,jk', {}, {})", "torch.cdist({}, {})",
)

OPERANDS = (
    ("x", "x"), ("x", "torch.ones(4, 2)"), ("x", "torch.ones(3)"), ("x", "torch.ones(2)"), ("torch.ones(3)", "torch.ones(2)"), ("torch.ones(3)",
    "torch.ones(3)"),
    ("x", "torch.tensor(1.0)"), ("torch.tensor(1.0)", "x"), ("torch.ones(2, 2, 3)", "torch.ones(3, 3, 2)"), ("torch.ones(2, 2, 3)", "torch.ones(2, 2, 2)"),
    ("torch.ones(3, 3)", "torch.ones(3, 3).double()"), ("torch.ones(3, 3)", "torch.ones(3, 3).long()"), ("torch.ones(3, 3)", "torch.ones(3, 3).half()"),
    ("torch.ones(3, 3).bool()", "torch.ones(3, 3).bool()"), ("torch.ones(3, 3).int()", "torch.ones(3, 3).long()"), ("torch.ones(3, 3)",
    "torch.ones(3, 3, device='meta')"),
    ("x", "[1.0]"), ("x", "2.0"), ("x", "None"), ("torch.ones(3)", "torch.ones(3).double()"), ("torch.ones(3)", "torch.ones(3, device='meta')"),
    ("torch.ones(3, 3)", "torch.ones(3).double()"), ("torch.ones(2, 3, 3)", "torch.ones(2, 3, 3).double()"), ("torch.ones(0, 3)", "torch.ones(2, 0)"),
)

SUMS = {"addmm": ((2, 2), (2, 3), (3, 2)), "addmv": ((2,), (2, 3), (3,)), "addbmm": ((2, 2), (4, 2, 3), (4, 3, 2)),
        "baddbmm": ((4, 2, 2), (4, 2, 3), (4, 3, 2)), "addr": ((2, 3), (2,), (3,))}

EQUATIONS = (
    "'', x", "'i', x", "'ij,jk->ik', x", "'ij->ik', x", "'ij->ii', x", "'ii', x", "'ii->i', x", "'i1', x", "'ij,', x, torch.ones(2)", "'ij->', x",
    "'...i,...i', x, torch.ones(3, 3)",
    "'ij...k..', x", "'ij->kj', x", "'i.j', x", "'i..j', x", "'ij,jk', x, x", "'ij,kj', x, torch.ones(2, 4)", "'ij,jk->', x, torch.ones(3, 2).double()",
    "'ij,ij', x, torch.ones(2, 3, device='meta')", "'ij-ji', x", "'ij->ji->ij', x", "'bij,bjk->bik', torch.ones(2, 3, 4), torch.ones(3, 4, 5)",
    "'i->...', torch.ones(3)",
    "'i...->i', x", "'ij,j,k->', x, torch.ones(3)", "'\\u00ff', torch.ones(2)", "'ij'", "'ij', [x, x]", "'ij', 3", "x, [0, 1], x, [1, 2]", "x, [0, 100]",
)

PAIRINGS = ("2", "3", "-1", "([0], [0])", "([0], [1])", "([0, 1], [0])", "([5], [0])", "([0, 0], [0, 0])", "([], [])", "1.5")

CONVOLVED = (       # what differs from a right call
    "", "input=(4, *s)", "input=(2, 4, *s, 2)", "input=(4,)", "input=(2, 3, *s)", "weight=(4, 4, *k, 1)", "weight=(4,)", "weight=(4, 4, *(9,) * d)",
    "weight=(4, 4, *(9,) * d), padding=1", "dilation=4", "weight=(4, 4, *(0,) * d)", "weight=(0, 4, *k)", "input=(2, 0, *s), weight=(4, 0, *k)",
    "input=(0, 4, *s)",
    "input=(2, 4, *s[:-1], 0)", "groups=3", "groups=0", "groups=-1", "groups=2", "groups=2.0", "stride=0", "stride=-1", "stride=1.5", "stride=(1, 1, 1, 1)",
    "stride=()",
    "padding=-1", "padding='nothing'", "padding='same', stride=2", "padding=(1, 1, 1, 1)", "dilation=0", "dilation=-1", "padding=2**62", "dilation=2**61",
    "stride=2**62",
    "bias=torch.ones(5)", "bias=torch.ones(1, 4)", "bias=torch.ones(4).double()", "bias=torch.ones(4, device='meta')", "bias=1.0", "weight=w.double()",
    "input=i.double()",
    "input=i.long()", "input=i.long(), weight=w.long()", "input=i.bool(), weight=w.bool()", "weight=w.to('meta')", "input=[1.0]", "weight=[1.0]",
)
TRANSPOSED = ("output_padding=1", "output_padding=2, stride=2", "output_padding=-1", "output_padding=1, dilation=2", "output_padding=2**62, stride=2**62+1",
              "padding=9")

INTO = (
    "torch.mm(a, b, out={})", "torch.matmul(a, b, out={})", "torch.bmm(a[None], b[None], out={})", "torch.addmm(a, a, b, out={})",
    "torch.baddbmm(a[None], a[None], b[None], out={})", "torch.mv(a, b[0], out={})", "torch.dot(a[0], b[0], out={})", "torch.outer(a[0], b[0], out={})",
    "torch.tensordot(a, b, 1, out={})", "torch.kron(a, b, out={})", "torch.inner(a, b, out={})", "torch.addmv(a[0], a, b[0], out={})",
    "torch.addr(a, a[0], b[0], out={})",
    "torch.add(a, b, out={})", "torch.exp(a, out={})", "torch.sum(a, 0, out={})", "torch.cat([a, b], out={})", "torch.cumsum(a, 0, out={})",
    "torch.gather(a, 0, torch.zeros(3, 3).long(), out={})", "torch.index_select(a, 0, torch.tensor([0, 2]), out={})", "torch.where(a > 0, a, b, out={})",
    "torch.linspace(0, 1, 3, out={})", "torch.arange(3, out={})", "torch.eye(3, out={})", "torch.stack([a, b], out={})",
)
TARGETS = ("a", "b", "a.t()", "a[0]", "c[:3]", "c[1:4]", "torch.ones(3, 1).expand(3, 3)", "torch.ones(1).expand(3)", "torch.ones(3, 3).long()",
           "torch.ones(3, 3).double()",
           "torch.ones(3, 3).half()", "torch.ones(3, 3, device='meta')", "[1.0]", "torch.ones(3, 3, requires_grad=True)", "torch.empty(0)", "torch.ones(5)")


def _ones(shape: tuple[int, ...], more: str = "") -> str:
    return f"torch.ones({shape}){more}"


def _sums() -> Iterator[str]:
    for name, (c, a, b) in SUMS.items():
        calls: tuple[tuple[str, str, str], ...] = (
            (_ones((*c[:-1], 5)), _ones(a), _ones(b)), (_ones((1, 1, *c)), _ones(a), _ones(b)), (_ones(c), _ones(a), _ones((*b[:-1], 7))), (_ones(c),
            _ones(a), _ones((1, *b))),
            (_ones(c, ".double()"), _ones(a), _ones(b)), (_ones(c), _ones(a), _ones(b, ".double()")), (_ones(c, ".long()"), _ones(a), _ones(b)),
            (_ones(c, ".to('meta')"), _ones(a), _ones(b)), (_ones(c), _ones(a), _ones(b, ".to('meta')")), ("1.0", _ones(a), _ones(b)),
            (_ones(c, ".long()"), _ones(a, ".long()"), _ones(b, ".long()") + ", alpha=0.5"), (_ones(c, ".bool()"), _ones(a, ".bool()"), _ones(b, ".bool()")),
            (_ones(c), _ones(a), _ones(b) + ", beta='a'"))
        for call in calls:
            yield f"torch.{name}({', '.join(call)})"
        yield f"{_ones(c)}.{name}_({_ones(a)}, {_ones((*b[:-1], 7))})"
        yield f"{_ones((1, *c[1:]))}.{name}_({_ones(a)}, {_ones(b)})"
        yield f"{_ones(c, '.long()')}.{name}_({_ones(a)}, {_ones(b)})"


def _convolutions() -> Iterator[str]:
    for d in (1, 2, 3):
        for kind in ("conv", "conv_transpose"):
            setting = f"d, s, k = {d}, {(6, 5, 5)[:d]}, {(3,) * d}\ni, w = torch.ones(2, 4, *s), torch.ones(4, 4, *k)\ngiven = dict(input=i, weight=w)\n"
            for change in (*CONVOLVED, *(TRANSPOSED if kind == "conv_transpose" else ())):
                ready = "given = {n: torch.ones(v) if n in ('input', 'weight') and isinstance(v, tuple) else v for n, v in given.items()}\n"
                yield f"{setting}given.update({change})\n{ready}F.{kind}{d}d(given.pop('input'), given.pop('weight'), **given)"


def cases() -> Iterator[tuple[str, str]]:
    """Group and source of each; the last line is the call."""
    for group, calls in (("creation", CREATION), ("view", VIEWS), ("layer", LAYERS), ("sum", _sums()), ("convolution", _convolutions())):
        for call in calls:
            yield group, HEAD + call
    for call in PRODUCTS:
        for pair in OPERANDS:
            yield "product", HEAD + call.format(*pair)
    for equation in EQUATIONS:
        yield "einsum", f"{HEAD}torch.einsum({equation})"
    for dims in PAIRINGS:
        yield "einsum", f"{HEAD}torch.tensordot(x, x, {dims})"
    for call in INTO:
        for target in TARGETS:
            yield "out", f"c = torch.arange(12.0).view(4, 3)\na, b = c[:3], torch.ones(3, 3)\n{call.format(target)}"
