"""The simulated GPU refuses and allows what CUDA does, and counts synchronisations."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.pretended_gpu import GPU, PretendedGPU

REFUSED = {
    "a product": lambda there, here: there @ here,
    "a sum": lambda there, here: there + here,
    "a sum in place": lambda there, here: there.add_(here),
    "a number on the CPU that is changed": lambda there, here: here.sum().add_(there.sum()),
    "a list": lambda there, here: torch.cat([there, here]),
    "numbers in a list": lambda there, here: torch.stack([there.sum(), here.sum()]),
    "a number for many at once": lambda there, here: torch._foreach_mul_([there], here.sum()),
    "an index of gather": lambda there, here: there.gather(1, here.long()),
    "tokens of an embedding": lambda there, here: F.embedding(here.long(), there),
    "what is filled in": lambda there, here: there.masked_fill(here > 0, 1.0),
    "a CPU tensor by indices on the GPU": lambda there, here: here[there.long()],
    "values put in": lambda there, here: there.__setitem__(torch.tensor([0]), here[:1]),
    "a loss": lambda there, here: F.cross_entropy(there, here[:, 0].long()),
}


@pytest.mark.parametrize("what", REFUSED)
def test_two_devices_do_not_go_together(what):
    here = torch.zeros(2, 2)
    with PretendedGPU():
        there = torch.zeros(2, 2).to("cuda:0")
        REFUSED[what](there, there.clone())
        REFUSED[what](here.clone(), here)
        with pytest.raises(RuntimeError, match="found at least two devices, cuda:0 and cpu"):
            REFUSED[what](there, here)


def test_a_gpu_has_no_arrays():
    with PretendedGPU():
        there = torch.zeros(2, device=GPU)
        for convert in (Tensor.numpy, np.asarray):
            with pytest.raises(TypeError, match="can't convert cuda:0"):
                convert(there)
        assert there.cpu().numpy().tolist() == [0, 0]
        with pytest.raises(RuntimeError, match="cannot pin"):
            there.pin_memory()


def test_what_a_gpu_takes_from_the_cpu():
    here, number, places = torch.arange(3.0), torch.tensor(2.0), torch.tensor([0, 2])
    with PretendedGPU():
        there = torch.zeros(3, device="cuda")
        made = [there + number, there.masked_fill(there == 0, number), there[places]]
        there[places] = 1.0
        there[places] = number
        there.fill_(number)
        there.copy_(here)
        made += [there.clone(), torch.where(there > 1, there, 0.0), there[:2], there.new_ones(2)]
        made += [torch.zeros_like(there), there.to(torch.int64), copy.deepcopy(there)]
        made += [torch.tensor([1.0], device="cuda:0"), here.to(there), here.cuda()]
        assert {t.device for t in made} == {GPU}
        assert all(t.is_cuda for t in made)
        moved = [there.cpu(), there.to("cpu"), torch.ones(2), there.to(here)]
        assert {t.device.type for t in moved} == {"cpu"}
    assert here.device.type == there.device.type == "cpu"  # nothing is left of it outside


def test_weights_gradients_and_moments_are_where_the_model_is():
    torch.manual_seed(0)
    here = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    there, inputs = copy.deepcopy(here), torch.randn(8, 4)
    with PretendedGPU():
        there.to(GPU)
        for model, x in ((here, inputs), (there, inputs.to(GPU))):
            optimizer = torch.optim.AdamW(model.parameters(), fused=True)
            for _ in range(2):
                optimizer.zero_grad()
                F.cross_entropy(model(x), x.argmax(1) % 2).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
        held = [*there.buffers(), *there.parameters(), *(p.grad for p in there.parameters())]
        held += [v for state in optimizer.state.values() for v in state.values()]
        assert {t.device for t in held} == {GPU}
        with pytest.raises(RuntimeError, match="two devices"):
            there(inputs)
    for p, q in zip(here.parameters(), there.parameters(), strict=True):
        assert torch.equal(p, q)


def test_python_within_a_backward_pass_is_watched():
    class Mixed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            assert gradient.device == GPU
            return gradient + torch.ones(2)

    with PretendedGPU():
        x = torch.ones(2, device=GPU, requires_grad=True)
        with pytest.raises(RuntimeError, match="two devices"):
            Mixed.apply(x).sum().backward()


WAITS = {
    "item": lambda there, here: int(there.sum()),
    "item of a condition": lambda there, here: bool((there > 0).any()),
    "nonzero": lambda there, here: there.nonzero(),
    "index by a mask": lambda there, here: there[there > 0],
    "index by a mask, put": lambda there, here: there.__setitem__(there > 0, there[:0]),
    "tolist": lambda there, here: there.tolist(),
    "copy to the CPU": lambda there, here: there.cpu(),
    "copy to the GPU": lambda there, here: here.to(there.device),
    "copy to the GPU from memory that is not page-locked": lambda there, here: here.to(
        GPU, non_blocking=True
    ),
    "copy to the GPU of a literal": lambda there, here: torch.tensor([1.0], device=GPU),
    "synchronize": lambda there, here: torch.cuda.synchronize(),
}


@pytest.mark.parametrize("what", WAITS)
def test_what_the_host_waits_for_is_noted(what):
    here = torch.zeros(3)
    with PretendedGPU() as gpu:
        there = torch.zeros(3, device=GPU)
        assert gpu.synchronisations == []
        WAITS[what](there, here)
    noted = set(gpu.synchronisations)
    kind = next(k for k in ("index by a mask", "copy to the GPU", what) if what.startswith(k))
    assert noted == {f"{kind.removesuffix(' of a condition')} in <lambda>"}


def test_what_the_host_does_not_wait_for():
    here = torch.zeros(3)
    with PretendedGPU() as gpu:
        pinned = here.pin_memory()
        assert pinned.is_pinned()
        assert not here.is_pinned()
        there = pinned.to(GPU, non_blocking=True)
        there.copy_(pinned, non_blocking=True)
        there[there > 0] = 1.0
        there = there.masked_fill(there > 0, 1).to(torch.float64).to(GPU) + torch.tensor(1.0)
        torch.full((), 3.0, device=GPU)
        assert here.tolist() == [0, 0, 0]
        assert here[here > 0].cpu().numel() == 0
    assert gpu.synchronisations == []


def test_autocast_casts():
    with PretendedGPU():
        x = torch.ones(2, 2, device=GPU)
        with torch.autocast("cuda", torch.bfloat16):
            assert torch.is_autocast_enabled("cuda")
            assert (x @ x).dtype == torch.bfloat16
            assert (x @ x).device == GPU
        assert (x @ x).dtype == torch.float32
