"""``torch.jit`` gives back what it is given."""

import pytest

import flambeau as torch


def test_scripts_that_use_it_run():
    @torch.jit.script
    def gelu(x):
        if torch.jit.is_scripting() or torch.jit.is_tracing():
            raise AssertionError
        return x * torch.sigmoid(1.702 * x)

    class Model(torch.nn.Module):
        @torch.jit.export
        def forward(self, x):
            return gelu(x) + self.more(x)

        @torch.jit.ignore(drop=True)
        def more(self, x):
            return torch.jit.annotate(torch.Tensor, x)

        @torch.jit.ignore
        def unseen(self):
            return 1
    model, x = Model(), torch.randn(3)
    traced = torch.jit.trace(model, x)
    assert torch.equal(traced(x), torch.jit.script(model)(x))
    assert torch.jit.freeze(model.eval()) is model
    assert torch.jit.isinstance([1], list[int]) and not torch.jit.isinstance(1, (str, list))


def test_archives_are_refused_with_a_way_out(tmp_path):
    with pytest.raises(NotImplementedError, match="state_dict"):
        torch.jit.save(torch.nn.Linear(1, 1), tmp_path / "m.pt")
    with pytest.raises(NotImplementedError, match="state_dict"):
        torch.jit.load(tmp_path / "m.pt")
    with pytest.raises(RuntimeError, match="eval"):
        torch.jit.freeze(torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="function or module"):
        torch.jit.trace(3, torch.ones(1))
