"A card that is none: tensors that say they live elsewhere, and refuse to meet those of the processor. Finds what a machine without a GPU cannot run."
import contextlib
import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = 'meta'  # a device torch knows without a driver; the numbers are kept beside


class OnCard(torch.Tensor):
    "A tensor that says it lives on the card."
    @staticmethod
    def __new__(cls, data): return torch.Tensor._make_wrapper_subclass(cls, data.shape, strides=data.stride(), storage_offset=data.storage_offset(), dtype=data.dtype, device=DEVICE, requires_grad=data.requires_grad)
    def __init__(self, data): self.held = data
    def __repr__(self): return f'OnCard({self.held})'
    def tolist(self): return self.held.tolist()
    def new_tensor(self, x, dtype=None): return OnCard(torch.tensor(x, dtype=dtype or self.dtype))
    def __getitem__(self, i): return super().__getitem__(tuple(OnCard(torch.tensor(x)) if isinstance(x, list) else x for x in (i if isinstance(i, tuple) else (i,))))
    def numpy(self, *a, **k): raise TypeError('a tensor of the card is no numpy array: use .cpu() first')
    __array__ = numpy
    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None): return run(func, args, kwargs or {})


LEFT = []  # numbers of elements that were copied from the card to the processor

def run(func, args, kwargs):
    "An operation on what the tensors hold, refused if it mixes devices; its answers live where its arguments do."
    flat, spec = pytree.tree_flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    card = [isinstance(x, OnCard) for x in tensors]; to = kwargs.get('device')
    copies = func.__name__.startswith(('_to_copy', 'copy_'))
    if any(card) and not copies:
        odd = [tuple(x.shape) for x, c in zip(tensors, card) if not c and x.ndim]
        if odd: raise RuntimeError(f'{func}: tensors of the card and of the processor {odd}')
    on = torch.device(to).type == DEVICE if to is not None else isinstance(args[0], OnCard) if func.__name__.startswith('copy_') else any(card)
    if copies and any(card) and not on: LEFT.append(max(x.numel() for x in tensors))
    flat = [x.held if isinstance(x, OnCard) else torch.device('cpu') if isinstance(x, torch.device) else x for x in flat]
    a, k = pytree.tree_unflatten(flat, spec); known = {id(x.held): x for x in tensors if isinstance(x, OnCard)}
    return pytree.tree_map(lambda x: known[id(x)] if id(x) in known else OnCard(x) if on and isinstance(x, torch.Tensor) else x, func(*a, **k))


class Card(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None): return run(func, args, kwargs or {})


@pytest.fixture
def card(monkeypatch):
    "The card; torch.tensor and torch.as_tensor get there by a copy, as on a real one."
    for name in ('tensor', 'as_tensor'):
        real = getattr(torch, name)
        def make(x, dtype=None, device=None, real=real, **k):
            out = real(x, dtype=dtype, **k); return out if device is None else out.to(device)
        monkeypatch.setattr(torch, name, make)
    monkeypatch.setattr(torch, 'autocast', lambda *a, **k: contextlib.nullcontext())  # which knows real devices alone
    LEFT.clear()
    with Card(): yield


ALL = dict(bystander=1., occluder=1., pillar=1., motion_blur=1., flare=1., low_res=1., jpeg=1., noisy=1., vignette=1., defocus=1., camera_moves=1.)

def test_mixing_is_refused(card):
    with pytest.raises(RuntimeError, match='of the card and of the processor'): torch.zeros(3, device=DEVICE) + torch.ones(3)
    with pytest.raises(TypeError, match='numpy'): torch.zeros(3, device=DEVICE).numpy()


@pytest.mark.parametrize('how', [dict(single=True), ALL], ids=['single frames', 'clips with everything on'])
def test_clips_are_drawn_on_the_card(card, how):
    "The same clips as on the processor; what leaves the card on the way is small: no picture does."
    from solopose.synth.scenes import SceneRange
    from solopose.synth.people import People
    scene = SceneRange(size=64, frames=4, **how)
    here, there = (People(scene=scene, device=d, how='splat') for d in ('cpu', DEVICE))
    want = here.clip(3); LEFT.clear(); got = there.clip(3)
    for k, v in want.items():
        if torch.is_tensor(v): assert isinstance(got[k], OnCard) and torch.equal(v, got[k].held), k
    assert max(LEFT, default=0) < 64 * 64, LEFT


def to_card(net):
    "Parameters and buffers of a network, moved; its grids are made anew."
    for owner in net.modules():
        for k, p in owner._parameters.items(): owner._parameters[k] = p if p is None else torch.nn.Parameter(OnCard(p.detach()))
        for k, x in owner._buffers.items(): owner._buffers[k] = x if x is None else OnCard(x)


def test_a_training_step_on_the_card(card):
    "Augmentation, loss and gradients, with drawn clips that never were anywhere else."
    from solopose.model import create_model
    from solopose.training.pools import augment, augment_draws
    from solopose.synth.scenes import SceneRange
    from solopose.synth.people import People
    from solopose.synth.stream import sample_of
    from solopose.training.losses import SurfaceHead, pose_loss
    people = People(scene=SceneRange(size=64, frames=4), device=DEVICE, how='splat')
    batch = torch.utils.data.default_collate([sample_of(people.clip(i)) for i in range(2)])
    net = create_model('solopose-tiny', image_size=64, width=48, depth=1, heads=2, window=(4, 4, 4), volume=(8, 8, 8), sigma=220.)
    surface = SurfaceHead(net); draws = {k: v.to(DEVICE) for k, v in augment_draws(2, torch.Generator().manual_seed(0)).items()}
    losses = []
    for device in ('cpu', DEVICE):
        if device == DEVICE: to_card(net); to_card(surface)
        on = (lambda x: x.held if isinstance(x, OnCard) else x) if device == 'cpu' else (lambda x: x)
        b = augment({k: on(v) for k, v in batch.items()}, {k: on(v) for k, v in draws.items()})
        loss = pose_loss(net, b, (1., 1., 1., 1., 1.), surface=surface)['loss']; loss.backward(); losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert all(isinstance(p.grad, OnCard) for p in net.parameters() if p.requires_grad)
